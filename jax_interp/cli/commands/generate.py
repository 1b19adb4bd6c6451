"""`jax-interp generate`: flags to settings to jobs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_interp.cli.options.networks import NONE_GIVEN, NetworkFolders, which_converted, with_network_folders
from jax_interp.errors import UsageError

_INPUT, _TEXT, _SAMPLING, _GUARDRAILS, _OUTPUT, _NETWORKS, _MEMORY, _DEVICES, _UPSTREAM = (
    "Input", "Text", "Sampling", "Guardrails", "Output", "Networks", "Memory", "Several GPUs",
    "For upstream's command lines",
)  # fmt: skip

Precision = Literal["bfloat16", "float32"]


@with_network_folders(which_converted(_NETWORKS))
def generate(
    input: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            "--input-image-or-video-path",
            help="A video, a folder of pictures, or two or more pictures.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    batch_input_path: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines, one clip each: {"visual_input": ..., "prompt": ..., "name": ...}.', rich_help_panel=_INPUT
        ),
    ] = None,
    num_frame_pairs: Annotated[
        int | None, typer.Option(help="Pairs to interpolate; all by default.", rich_help_panel=_INPUT)
    ] = None,
    frame_stride: Annotated[
        int, typer.Option(help="Input frames from one end of a pair to the other.", rich_help_panel=_INPUT)
    ] = 1,
    frame_index_start: Annotated[int, typer.Option(help="First frame of the first pair.", rich_help_panel=_INPUT)] = 0,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="What the video shows; without it the prompt upsampler writes it from the last frame. Counts only"
            " with --guidance other than -1.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    prompt_upsampler: Annotated[
        bool | None,
        typer.Option(
            "--prompt-upsampler/--disable-prompt-upsampler",
            help="Run it even where the prompt does not count, or not at all: then no --prompt is the empty text.",
            rich_help_panel=_TEXT,
            show_default="where the prompt counts and none is given",
        ),
    ] = None,
    upsampler_instruction: Annotated[
        str | None,
        typer.Option(help="What it is asked to write, in place of its own words.", rich_help_panel=_TEXT),
    ] = None,
    upsampler_tokens: Annotated[int, typer.Option(help="Tokens that it writes at most.", rich_help_panel=_TEXT)] = 400,
    negative_prompt: Annotated[
        str | None,
        typer.Option(help='What it should not; by default upstream\'s text, "" for none.', rich_help_panel=_TEXT),
    ] = None,
    text_embeddings: Annotated[
        Path | None,
        typer.Option(help="File of precomputed embeddings; replaces the text encoder.", rich_help_panel=_TEXT),
    ] = None,
    embedding_cache: Annotated[
        bool, typer.Option(help="Keep encoded prompts in the user's cache folder.", rich_help_panel=_TEXT)
    ] = True,
    guidance: Annotated[
        float,
        typer.Option(
            help="x0 = cond + g (cond - uncond). -1, upstream's effective value: only the negative prompt counts."
            " 0: only the prompt counts.",
            rich_help_panel=_SAMPLING,
        ),
    ] = -1.0,
    seed: Annotated[int, typer.Option(help="Seed of the initial noise.", rich_help_panel=_SAMPLING)] = 11,
    num_steps: Annotated[int, typer.Option(help="Solver steps.", rich_help_panel=_SAMPLING)] = 35,
    condition_noise: Annotated[
        Literal["fixed", "random"],
        typer.Option(
            help="Noise on the known frames: fixed is deterministic, random is what upstream shipped (here seeded).",
            rich_help_panel=_SAMPLING,
        ),
    ] = "fixed",
    height: Annotated[int, typer.Option(help="Output height, a multiple of 16.", rich_help_panel=_SAMPLING)] = 704,
    width: Annotated[int, typer.Option(help="Output width, a multiple of 16.", rich_help_panel=_SAMPLING)] = 1280,
    fps: Annotated[
        str,
        typer.Option(
            help="Rate of the output, which the network is told too: 24, 23.976 or 24000/1001.",
            rich_help_panel=_SAMPLING,
        ),
    ] = "24",
    num_video_frames: Annotated[
        int, typer.Option(help="Frames of one pair, both ends included: 8n + 2.", rich_help_panel=_SAMPLING)
    ] = 10,
    dtype: Annotated[
        Precision, typer.Option(help="What transformer and tokenizer compute in.", rich_help_panel=_SAMPLING)
    ] = "bfloat16",
    rotary_precision: Annotated[
        Precision | None,
        typer.Option(help="Accuracy of the rotary tables; by default --dtype, as upstream.", rich_help_panel=_SAMPLING),
    ] = None,
    text_encoder_dtype: Annotated[
        Precision, typer.Option(help="What the text encoder computes in.", rich_help_panel=_SAMPLING)
    ] = "float32",
    disable_guardrail: Annotated[
        bool,
        typer.Option(
            "--disable-guardrail",
            help="Check neither prompts nor frames; the model's licence then asks for a guardrail of your own.",
            rich_help_panel=_GUARDRAILS,
        ),
    ] = False,
    guardrail_frame_stride: Annotated[
        int,
        typer.Option(help="Look at every n-th frame; faces are pixelated on all.", rich_help_panel=_GUARDRAILS),
    ] = 1,
    guardrail_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds that a check may take, loading and compiling included; one that takes longer blocks.",
            rich_help_panel=_GUARDRAILS,
        ),
    ] = 600.0,
    video_save_folder: Annotated[Path, typer.Option(help="Folder of the results.", rich_help_panel=_OUTPUT)] = Path(
        "outputs"
    ),
    video_save_name: Annotated[
        str,
        typer.Option(help="NAME.mp4, NAME.json (the run record) and NAME.txt (the prompt).", rich_help_panel=_OUTPUT),
    ] = "output",
    save_frames: Annotated[
        Path | None, typer.Option(help="Folder for the video's frames as PNG, lossless.", rich_help_panel=_OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Let --save-frames replace a folder of frames, and the results replace files of that name that this"
            " program did not write.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    checkpoint_dir: Annotated[
        Path, typer.Option(help="Folder that `jax-interp convert` made.", rich_help_panel=_NETWORKS)
    ] = Path("converted"),
    folders: NetworkFolders = NONE_GIVEN,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE[=STRENGTH] of a low-rank adapter that is merged into the transformer; may be given several"
            " times.",
            rich_help_panel=_NETWORKS,
        ),
    ] = None,
    memory_budget: Annotated[
        str,
        typer.Option(
            help="GPU memory to use, as 8GB or 6GiB; auto: what is free. Chooses where every network lives, unless an"
            " option below says so. `jax-interp memory` shows the plans.",
            rich_help_panel=_MEMORY,
        ),
    ] = "auto",
    placement: Annotated[
        list[str] | None,
        typer.Option(
            help="NETWORK=resident, =offloaded (in host memory outside of its stage) or =streamed (block by block"
            " through the GPU) or =sharded (divided among several GPUs), for diffusion_transformer, tokenizer,"
            " text_encoder, prompt_upsampler or guardrail_models.",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    resident_blocks: Annotated[
        str,
        typer.Option(
            help="Stream the transformer and keep this many of its blocks on the GPU; auto: as --memory-budget says.",
            rich_help_panel=_MEMORY,
        ),
    ] = "auto",
    pairs_per_batch: Annotated[
        str, typer.Option(help="Pairs that share a pass over the weights; auto: from memory.", rich_help_panel=_MEMORY)
    ] = "auto",
    num_gpus: Annotated[
        str, typer.Option(help="GPUs to use; auto: all that are visible.", rich_help_panel=_DEVICES)
    ] = "auto",
    mesh: Annotated[
        str,
        typer.Option(
            help="How to use them, as data=2,sequence=2: data runs pairs and guidance branches side by side, sequence"
            " splits the tokens of each, tensor its heads and weights. auto: the fastest for the pairs there are.",
            rich_help_panel=_DEVICES,
        ),
    ] = "auto",
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed",
            help="This is one of several processes that Slurm, Open MPI or Kubernetes started for one run.",
            rich_help_panel=_DEVICES,
        ),
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of process 0, where nothing of these says who is who; the same in all processes.",
            rich_help_panel=_DEVICES,
        ),
    ] = None,
    process_id: Annotated[int | None, typer.Option(help="Number of this process.", rich_help_panel=_DEVICES)] = None,
    num_processes: Annotated[int | None, typer.Option(help="How many there are.", rich_help_panel=_DEVICES)] = None,
    process_timeout: Annotated[
        float,
        typer.Option(help="Seconds without a sign of life until a process counts as dead.", rich_help_panel=_DEVICES),
    ] = 60,
    offload_diffusion_transformer: Annotated[
        bool, typer.Option("--offload-diffusion-transformer", help="Offload it.", rich_help_panel=_MEMORY)
    ] = False,
    offload_tokenizer: Annotated[
        bool, typer.Option("--offload-tokenizer", help="Offload it.", rich_help_panel=_MEMORY)
    ] = False,
    offload_text_encoder_model: Annotated[
        bool, typer.Option("--offload-text-encoder-model", help="Free it after the prompts.", rich_help_panel=_MEMORY)
    ] = False,
    offload_prompt_upsampler: Annotated[
        bool, typer.Option("--offload-prompt-upsampler", help="Free it after the prompt.", rich_help_panel=_MEMORY)
    ] = False,
    offload_guardrail_models: Annotated[
        bool, typer.Option("--offload-guardrail-models", help="Offload them.", rich_help_panel=_MEMORY)
    ] = False,
    num_input_frames: Annotated[int, typer.Option(help="Only 1.", rich_help_panel=_UPSTREAM)] = 1,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Print the seconds of every stage.", rich_help_panel=_UPSTREAM)
    ] = False,
) -> None:
    """Interpolate between the frames of a clip, or between pictures."""
    from jax_interp.cli.options.memory import MemoryFlags
    from jax_interp.cli.options.mesh import MeshFlags
    from jax_interp.cli.options.processes import ProcessFlags
    from jax_interp.cli.terminal.console import be_quiet, show_log

    show_log()
    flags = MemoryFlags.parse(
        memory_budget,
        placement or [],
        resident_blocks,
        pairs_per_batch,
        offloaded={
            "prompt_upsampler": offload_prompt_upsampler,
            "guardrail_models": offload_guardrail_models,
            "text_encoder": offload_text_encoder_model,
            "tokenizer": offload_tokenizer,
            "diffusion_transformer": offload_diffusion_transformer,
        },
    )
    if (input is None) == (batch_input_path is None):
        raise UsageError("give either --input (a video, a folder, or pictures) or --batch-input-path (JSON lines)")
    if num_input_frames != 1:
        raise UsageError(f"--num-input-frames {num_input_frames}: the interpolator only takes 1")
    mesh_flags = MeshFlags.parse(mesh, num_gpus)
    process_flags = ProcessFlags.parse(distributed, coordinator, process_id, num_processes, process_timeout)

    from convert.lora.strength import parse_strength
    from jax_interp.cli.options.rate import Rate
    from jax_interp.cli.options.upsampler import check_upsampler, choose_upsampler
    from jax_interp.cli.runs.generate import agree_on_machines, agree_on_work, check_guardrails, check_results, run_jobs
    from jax_interp.diffusion.settings import ConditionNoise, SampleSettings
    from jax_interp.pipeline.jobs.batch import plain_name, read_batch
    from jax_interp.pipeline.jobs.request import Job
    from jax_interp.pipeline.settings import InterpolationSettings

    adapter_files = [parse_strength(text) for text in lora or ()]
    noise: ConditionNoise = condition_noise
    rate = Rate.parse(fps)
    upsampler = choose_upsampler(prompt, prompt_upsampler, upsampler_instruction, upsampler_tokens, guidance)
    template = Job(
        inputs=tuple(input or ()),
        video=video_save_folder / f"{plain_name(video_save_name, '--video-save-name')}.mp4",
        upsampler=upsampler,
        frames_folder=save_frames,
        overwrite=overwrite,
        rate=rate.exact,
        settings=InterpolationSettings(
            prompt=prompt or "",
            negative_prompt=negative_prompt,
            sampling=SampleSettings(guidance, seed, num_steps, rate.value, noise),
            num_frame_pairs=num_frame_pairs,
            frame_stride=frame_stride,
            frame_index_start=frame_index_start,
            height=height,
            width=width,
            num_video_frames=num_video_frames,
            pairs_per_batch=flags.pairs_per_batch or 1,
        ),
    )
    jobs = [template] if batch_input_path is None else read_batch(batch_input_path, template)
    check_upsampler(jobs, checkpoint_dir, asked_for=bool(prompt_upsampler or folders["prompt_upsampler"]))
    flags.limit_process()
    process_flags.start()

    from convert.lora.reading import read_adapters
    from jax_interp.cli.options.guardrails import open_guardrails
    from jax_interp.pipeline.interpolator import Interpolator
    from jax_interp.runtime import processes
    from jax_interp.runtime.compile_cache import enable_compile_cache

    enable_compile_cache()
    if not processes.is_first():
        be_quiet()
    guardrails = open_guardrails(
        checkpoint_dir,
        folders,
        frame_stride=guardrail_frame_stride,
        timeout=guardrail_timeout,
        disabled=disable_guardrail,
        text_embeddings=text_embeddings,
    )
    with processes.shared_fate():
        check_results(jobs, batch_input_path, text_embeddings, checkpoint_dir)
        agree_on_machines()
        adapters = read_adapters(adapter_files, checkpoint_dir, folders["diffusion_transformer"])
        interpolator = Interpolator.from_pretrained(
            checkpoint_dir,
            dtype=dtype,
            rotary_precision=rotary_precision,
            text_encoder_dtype=text_encoder_dtype,
            diffusion_transformer_dir=folders["diffusion_transformer"],
            tokenizer_dir=folders["tokenizer"],
            text_encoder_dir=folders["text_encoder"],
            prompt_upsampler=any(job.upsampler is not None for job in jobs),
            prompt_upsampler_dir=folders["prompt_upsampler"],
            guardrails=guardrails or False,
            text_embeddings=text_embeddings,
            embedding_cache=embedding_cache,
            mesh=mesh_flags.choose(jobs),
            adapters=adapters,
        )
        check_guardrails(guardrails, jobs)
        agree_on_work(interpolator, jobs)
        pairs = flags.place(interpolator, template.settings)
        shared = [replace(job, settings=replace(job.settings, pairs_per_batch=pairs)) for job in jobs]
        run_jobs(interpolator, shared, benchmark, is_batch=batch_input_path is not None)
