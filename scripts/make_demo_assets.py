"""Make the checkpoint folder and the clip of `make demo`. Maintainers run it once; it needs PyTorch.

python scripts/make_demo_assets.py --output jax_interp/demo
"""

import argparse
from pathlib import Path

import av
import numpy as np
import torch

from demo_assets import evaluation, files, scene, text, tokenizer, training, transformer

SIZE = (128, 192)
"""Height and width of the clip, and of the pictures the networks are trained on."""


def write_clip(path: Path) -> None:
    """Keyframes of the demo scene as H.264, one interval apart, tagged BT.709."""
    frames = scene.DEMO_SCENE.clip(np.arange(scene.DEMO_FRAMES), *SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "8", "preset": "veryslow", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = 1, 1
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 1, 1
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("jax_interp/demo"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokenizer-steps", type=int, default=1400)
    parser.add_argument("--dit-steps", type=int, default=1500, help="0 for both steps: random weights")
    parser.add_argument("--device", default="cpu", help="cuda trains in minutes, but not the same weights every time")
    parser.add_argument("--batches", type=int, default=1, help="multiplies the batch of every step")
    options = parser.parse_args()
    effort = training.Effort(options.device, options.batches)
    # The order of sums, and so the result, depends on the number of threads.
    if options.device == "cpu":
        torch.set_num_threads(1)
    checkpoints: Path = options.output / "checkpoints"

    write_clip(options.output / "clip.mp4")
    t5_folder = checkpoints / files.T5_FOLDER
    text.write_t5(t5_folder, text.build_tokenizer(options.seed), text.Sizes(), options.seed)

    encoder, decoder = training.train_tokenizer(tokenizer.Sizes(), options.tokenizer_steps, SIZE, options.seed, effort)
    statistics = training.latent_statistics(encoder, SIZE, options.seed)
    folder = checkpoints / files.TOKENIZER_FOLDER
    files.write_statistics(folder, *statistics)

    dit = training.train_dit(
        transformer.Sizes(), encoder, statistics, t5_folder, options.dit_steps, SIZE, options.seed, effort
    )
    files.write_dit(checkpoints / files.DIT_FOLDER / "model.pt", dit)
    height, width = SIZE
    files.write_module(folder / "encoder.jit", encoder, torch.zeros(1, 3, 9, height, width))
    files.write_module(folder / "decoder.jit", decoder, torch.zeros(1, 16, 2, height // 8, width // 8))
    report = evaluation.report(
        encoder, decoder, dit, statistics, training.negative_prompt(t5_folder), SIZE, options.seed
    )
    for name, value in report.items():
        print(f"{name}: {value:.2f} dB")
    print(sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file()), "bytes in", options.output)


if __name__ == "__main__":
    main()
