"""What several GPUs cost: links, blocks, a model that predicts from both, and the lines that were measured."""
