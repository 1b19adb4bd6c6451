"""The form of each pipeline: its fields, and the settings that they stand for."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from jax_interp.app.asked import MOST_PROMPT, MOST_STEPS, PipelineName
from jax_interp.app.settings import AppSettings
from jax_interp.app.uploads import TAKEN
from jax_interp.errors import UsageError
from jax_interp.media.pictures.suffixes import PICTURE_SUFFIXES

PACES = {
    "Ten frames for every pair": "pace",
    "Frames a second": "rate",
    "Times as many frames": "factor",
    "Slow motion": "slow",
}
_EXAMPLES = {"rate": "60", "factor": "2", "slow": "2"}
"""Numbers that could be meant, for the paces that need one."""
AUTOMATIC = "Automatic"
_PRECISIONS = {
    "bfloat16, as upstream": "bfloat16",
    "8 bits: faster, half the memory, slightly less exact": "int8",
    "8 bits, rotated: more exact where a few channels are large": "int8-rotated",
    "float32: slower, twice the memory": "float32",
}
_SHAPES = {
    AUTOMATIC: "",
    "Keep the picture's shape": "auto",
    "Stretch it to the network's": "stretch",
}


@dataclass(frozen=True)
class Form:
    """The fields of a form, in the order in which `values_of` takes their values."""

    pipeline: PipelineName
    files: gr.File
    fields: list[Any]
    start: gr.Button
    plan: gr.HTML
    error: gr.HTML
    example: gr.Button | None = None
    """Takes a clip that the server has, for whoever has none."""


def interpolation_form(app: AppSettings) -> Form:
    """Make the fields for a clip, or pictures, between whose frames others are generated."""
    files = _files("A video, or two or more pictures in their order")
    example = gr.Button("Use the demo's clip", size="sm", elem_id="example") if app.example else None
    with gr.Row():
        pace = gr.Radio(list(PACES), value="Times as many frames", label="Rate and length of the result", min_width=260)
        amount = gr.Textbox(
            "2",
            label="How many",
            info="Frames a second: 60 or 60000/1001. Times as many frames, or slow motion: a factor, as 2. Ten frames"
            " for every pair needs none.",
            max_length=20,
            min_width=260,
        )
    prompt = _prompt("It counts only with a guidance other than -1.")
    with gr.Row():
        precision = _precision()
        steps = _steps(app)
        shape = gr.Dropdown(
            list(_SHAPES),
            value=AUTOMATIC,
            label="Shape",
            info="Automatic: stretched at ten frames for every pair, kept otherwise.",
            min_width=200,
        )
    with gr.Accordion("More", open=False), gr.Row():
        stride = gr.Number(
            app.frame_stride,
            label="Stride",
            info="Frames from one end of a pair to the other; those between are not used.",
            minimum=1,
            precision=0,
            min_width=200,
        )
        guidance = gr.Number(
            -1, label="Guidance", info="-1, as upstream: without the prompt. 0: by the prompt alone.", min_width=200
        )
        seed = gr.Number(11, label="Seed", minimum=0, precision=0, min_width=160)
        frames = gr.Checkbox(True, label="Keep the frames as PNG", min_width=200)
    plan, error = gr.HTML(elem_id="plan"), gr.HTML(elem_id="error")
    start = gr.Button("Interpolate", variant="primary", elem_id="start")
    fields = [pace, amount, prompt, precision, steps, shape, stride, guidance, seed, frames]
    return Form("interpolate", files, fields, start, plan, error, example)


def continuation_form(app: AppSettings) -> Form:
    """Make the fields for a picture or a clip that is continued."""
    files = _files("A picture, or a video whose end is continued")
    prompt = _prompt("What happens next.")
    with gr.Row():
        precision = _precision()
        steps = _steps(app)
        length = gr.Number(
            121,
            label="Frames of the result",
            info="9, 17, 25 and so on, to 121",
            minimum=9,
            maximum=121,
            precision=0,
            min_width=200,
        )
    with gr.Accordion("More", open=False), gr.Row():
        given = gr.Radio([1, 9], value=1, label="Last frames that are continued", min_width=200)
        guidance = gr.Number(7, label="Guidance", min_width=160)
        seed = gr.Number(1, label="Seed", minimum=0, precision=0, min_width=160)
        frames = gr.Checkbox(True, label="Keep the frames as PNG", min_width=200)
    plan, error = gr.HTML(elem_id="world-plan"), gr.HTML(elem_id="world-error")
    start = gr.Button("Continue", variant="primary", elem_id="world-start")
    return Form(
        "continue", files, [prompt, precision, steps, length, given, guidance, seed, frames], start, plan, error
    )


def values_of(pipeline: PipelineName, given: tuple[Any, ...]) -> dict[str, Any]:
    """Return the settings (`Asked.parse`) of what the fields of a form hold.

    Raises:
        UsageError: a number that the chosen rate needs is missing.
    """
    if pipeline == "continue":
        prompt, precision, steps, length, frames_given, guidance, seed, frames = given
        return {
            "pipeline": pipeline,
            "prompt": prompt or "",
            "precision": _PRECISIONS.get(precision, precision),
            "steps": steps,
            "length": length,
            "given_frames": frames_given,
            "guidance": guidance,
            "seed": seed,
            "frames": frames,
        }
    pace, amount, prompt, precision, steps, shape, stride, guidance, seed, frames = given
    kind, amount = PACES.get(pace), str(amount or "").strip()
    if kind in _EXAMPLES and not amount:
        raise UsageError(f'"How many" is empty; "{pace}" needs a number, as {_EXAMPLES[kind]}')
    rates = {"rate": amount, "factor": amount if amount.endswith("x") else f"{amount}x"}
    return {
        "pipeline": pipeline,
        "prompt": prompt or "",
        "rate": rates.get(str(kind), ""),
        "slow_motion": amount if kind == "slow" else "1",
        "precision": _PRECISIONS.get(precision, precision),
        "steps": steps,
        "aspect": _SHAPES.get(shape, shape),
        "frame_stride": stride,
        "guidance": guidance,
        "seed": seed,
        "frames": frames,
    }


def pace_of(files: Any) -> Any:
    """Return the pace to choose for what was uploaded: pictures have no time that a result could follow."""
    names = [str(file).lower() for file in files] if isinstance(files, list) else []
    are_pictures = len(names) > 1 and all(name.endswith(PICTURE_SUFFIXES) for name in names)
    return "Ten frames for every pair" if are_pictures else gr.skip()


def _files(label: str) -> gr.File:
    return gr.File(label=label, file_count="multiple", file_types=list(TAKEN), height=160)


def _prompt(info: str) -> gr.Textbox:
    return gr.Textbox(label="Prompt", info=info, lines=2, max_length=MOST_PROMPT)


def _precision() -> gr.Dropdown:
    return gr.Dropdown(list(_PRECISIONS), value="bfloat16, as upstream", label="Precision", min_width=200)


def _steps(app: AppSettings) -> gr.Slider:
    usual = "35 is usual" if app.example is None else "35 is usual, 1 is best for the demo's networks"
    info = f"Fewer are faster; {usual}."
    return gr.Slider(1, MOST_STEPS, app.num_steps, step=1, label="Steps", info=info, min_width=200)
