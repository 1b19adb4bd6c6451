"""Where each network lies: the one table of components and their folders, light enough for `--help`."""

DEFAULT_FOLDERS = {
    "diffusion_transformer": "Cosmos-Predict1-7B-WorldInterpolator",
    "tokenizer": "Cosmos-Tokenize1-CV8x8x8-720p",
    "text_encoder": "google-t5/t5-11b",
    "prompt_upsampler": "Pixtral-12B",
    "text_safety": "meta-llama/Llama-Guard-3-8B",
    "video_safety": "nvidia/Cosmos-Guardrail1/video_content_safety_filter",
    "face_blur": "nvidia/Cosmos-Guardrail1/face_blur_filter",
}
"""Upstream's folder of each network, in checkpoint folders and in converted ones, in the pipeline's order."""
