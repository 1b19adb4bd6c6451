"""The readers that are fuzzed: how a valid file of each is made, which changes suit it, and how it is read."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jax_interp.errors import CheckpointError, MediaError
from tests import golden
from tests.fuzz.mutations import ANYWHERE, Mutation, in_header, in_record, json_value, pickle_program, zip_field

Values = Mapping[str, Any]
"""What was read, by name; two readings of the same file are equal."""


@dataclass(frozen=True)
class Reader:
    """One way in which a file of somebody else comes into the program."""

    name: str
    make: Callable[[Path], None]
    """Write valid files into an empty folder."""
    targets: tuple[str, ...]
    """The files that are changed, one in each case."""
    read: Callable[[Path], Values]
    unseen: tuple[Mutation, ...]
    """Changes of which the format cannot tell; what is read may be anything."""
    seen: tuple[Mutation, ...] = ()
    """Changes of which it can: what is read is what was saved, or the file is refused."""
    removable: str | None = None
    """A folder that reading removes if it is damaged. Whatever else is removed counts as executed."""


def _digest(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        key: (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        for key, array in arrays.items()
    }


def _read_archive(name: str) -> Callable[[Path], Values]:
    def read(folder: Path) -> Values:
        from convert.formats.archive import open_archive

        return _digest({key: tensor.read() for key, tensor in open_archive(folder / name).items()})

    return read


def _write(name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(content())

    return make


def _state_dict() -> bytes:
    from tests.convert.formats.hostile import archive
    from tests.convert.formats.test_limits import state_dict

    return archive(state_dict(4), 4)


def _legacy() -> bytes:
    from tests.convert.formats.test_limits import old_file

    return old_file(3)


def _torchscript() -> bytes:
    from tests.convert.formats.hostile import archive
    from tests.convert.formats.test_limits import modules

    return archive(modules(3, 2))


def _arrays(count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"net.layers.{i}.weight": rng.standard_normal((i, 3), np.float32) for i in range(count)}


def _make_safetensors(folder: Path) -> None:
    from tests.convert.checkpoints import write_tensors

    write_tensors(folder / "model.safetensors", _arrays())


def _make_index(folder: Path) -> None:
    from tests.convert.checkpoints import write_tensors

    arrays = _arrays()
    for i, (key, array) in enumerate(arrays.items()):
        write_tensors(folder / f"{i}.safetensors", {key: array})
    weight_map = {key: f"{i}.safetensors" for i, key in enumerate(arrays)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _make_t5(folder: Path) -> None:
    for name in ("config.json", "pytorch_model.bin", "tokenizer.json"):
        shutil.copyfile(golden.CHECKPOINTS / "google-t5" / "t5-11b" / name, folder / name)


def _read_t5(folder: Path) -> Values:
    from convert.networks.components import TEXT_ENCODER
    from convert.source.checkpoint_files import infer_network, open_checkpoint

    config, _ = infer_network(TEXT_ENCODER, open_checkpoint(TEXT_ENCODER, folder, None))
    return {"config": config}


def _language(kind: str) -> tuple[Callable[[Path], None], Callable[[Path], Values]]:
    """A language model's settings beside the shapes of its weights, which are not in a file here."""

    def parts() -> Any:
        from convert.architecture import exported_settings, infer_language
        from convert.networks.components import PROMPT_UPSAMPLER, TEXT_SAFETY
        from tests.convert.architecture.test_infer_language import SMALL, SMALL_PIXTRAL, shapes_of

        if kind == "llama":
            return TEXT_SAFETY, SMALL, exported_settings.llama_settings, infer_language.infer_llama, shapes_of
        return (
            PROMPT_UPSAMPLER,
            SMALL_PIXTRAL,
            exported_settings.pixtral_settings,
            infer_language.infer_pixtral,
            shapes_of,
        )

    def make(folder: Path) -> None:
        _, config, settings, _, _ = parts()
        (folder / "config.json").write_text(json.dumps(settings(config)))

    def read(folder: Path) -> Values:
        component, config, _, infer, shapes_of = parts()
        return {"config": infer(shapes_of(component.plan(config)), folder)}

    return make, read


def _make_adapter(folder: Path) -> None:
    settings = {"peft_type": "LORA", "bias": "none", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "x/base"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"target_modules": ["q", "v"]}))


def _read_adapter(folder: Path) -> Values:
    from convert.source.adapter import _read_settings

    return {"settings": _read_settings(folder, "base")}


def _make_converted(folder: Path) -> None:
    from convert.conversion import ConversionRequest, convert_checkpoints

    request = ConversionRequest(
        checkpoint_dir=golden.CHECKPOINTS, output_dir=folder / "all", components=("text_encoder",), md5="skip"
    )
    (converted,) = convert_checkpoints(request)
    for path in converted.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "all")


def _read_converted(folder: Path) -> Values:
    from convert.inspection import inspect_path
    from convert.networks.components import COMPONENTS
    from jax_interp.runtime.checkpoint.converted import open_component
    from jax_interp.runtime.checkpoint.loading import StackedParams

    inspect_path(folder)
    found = open_component(folder)
    params = StackedParams(found, COMPONENTS[found.component].abstract(found.config))
    return _digest({"final_norm": params.outer()["final_norm"]["scale"]}) | {"sources": str(found.source_sha256)}


def _make_calibrated(folder: Path) -> None:
    from convert.conversion import ConversionRequest, convert_checkpoints
    from tests.made_up_calibration import MadeUp

    request = ConversionRequest(
        checkpoint_dir=golden.CHECKPOINTS,
        output_dir=folder / "all",
        components=("diffusion_transformer", "tokenizer"),
        md5="skip",
        quantization="int8",
        calibrate=MadeUp(),
    )
    _, converted = convert_checkpoints(request)
    for path in converted.iterdir():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "all")


def _read_calibrated(folder: Path) -> Values:
    from convert.target.calibration import read_statistics
    from jax_interp.runtime.checkpoint.converted import open_calibration, open_component

    found = open_component(folder, allow_incomplete=True)  # sizes would tell of most changes
    return _digest(read_statistics(found)) | {"report": str(open_calibration(found))}


def _make_embeddings(folder: Path) -> None:
    from jax_interp.pipeline.prompt.embeddings import save_embeddings

    rng = np.random.default_rng(0)
    save_embeddings(folder / "texts.safetensors", {t: rng.standard_normal((3, 5), np.float32) for t in ("a", "rain")})


def _read_embeddings(folder: Path) -> Values:
    from jax_interp.pipeline.prompt.embeddings import load_embeddings

    return _digest(load_embeddings(folder / "texts.safetensors"))


def _store(folder: Path) -> Any:
    from jax_interp.pipeline.jobs.pair_store import PairStore

    return PairStore(folder / "film.mp4", "0123456789ab")


_STORE = ".film.0123456789ab.unfinished"
_FRAMES = (2, 4, 4, 3)


def _make_pairs(folder: Path) -> None:
    store = _store(folder)
    store.save(0, np.arange(96, dtype=np.uint8).reshape(_FRAMES), {"frames": 2})
    store.keep_prompt("rain on a street")


def _read_pairs(folder: Path) -> Values:
    """As a run that goes on reads them: only what is `finished` is loaded, anything else is made again."""
    store = _store(folder)
    if not store.finished(1, _FRAMES):
        raise MediaError("the pair is made again")
    return _digest({"frames": store.load(0)}) | {"checked": store.checked(0)}


def _read_prompt(folder: Path) -> Values:
    store = _store(folder)
    if (prompt := store.prompt()) is None:
        raise MediaError("prompt and pairs are made again")
    return {"prompt": prompt, "finished": store.finished(1, _FRAMES)}


def _clip(folder: Path) -> Any:
    from jax_interp.pipeline.requests.request import Job
    from jax_interp.pipeline.settings import InterpolationSettings

    return Job(inputs=(), video=folder / "film.mp4", settings=InterpolationSettings())


def _make_record(folder: Path) -> None:
    job = _clip(folder)
    job.video.write_bytes(b"video")
    job.prompt_file.write_text("rain\n")
    output = {"video": str(job.video), "bytes": 5}
    record = {"fingerprint": "f" * 64, "settings": {"prompt": "rain"}, "output": output}
    job.record.write_text(json.dumps(record | {"frames": 10, "pairs": 1, "seconds": {"denoise": 1.5}}))


def _read_record(folder: Path) -> Values:
    """As a run reads it that would replace what the record is about."""
    from jax_interp.pipeline.jobs.outputs import check_outputs, own_record

    job = _clip(folder)
    check_outputs([job])
    return {"record": own_record(job)}


_CACHED = "one.safetensors"


def _cache(folder: Path) -> Any:
    from jax_interp.pipeline.prompt.embeddings import EmbeddingCache

    return EmbeddingCache(folder / "cache")


def _make_cache(folder: Path) -> None:
    from jax_interp.pipeline.prompt.embeddings import Embedding

    _cache(folder).put("network", "rain", Embedding(np.random.default_rng(0).standard_normal((3, 5), np.float32), 3))
    [entry] = (folder / "cache").rglob("*.safetensors")
    entry.rename(folder / _CACHED)
    entry.symlink_to(Path("../..", _CACHED))


def _read_cache(folder: Path) -> Values:
    embedding = _cache(folder).get("network", "rain")
    if embedding is None:
        raise CheckpointError("the text is encoded again")
    return _digest({"rows": embedding.rows}) | {"tokens": embedding.num_tokens}


_JSON = (json_value, json_value, json_value, *ANYWHERE)
_RAW_ZIP = (*ANYWHERE, zip_field, zip_field, zip_field)
_REPACKED = (in_record(pickle_program), in_record(pickle_program), *(in_record(change) for change in ANYWHERE))

READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "state dict", _write("model.pt", _state_dict), ("model.pt",), _read_archive("model.pt"), _REPACKED, _RAW_ZIP
        ),
        Reader(
            "torch.save",
            _write(
                "mean_std.pt", lambda: (golden.CHECKPOINTS / "Cosmos-Tokenize1-CV8x8x8-720p/mean_std.pt").read_bytes()
            ),
            ("mean_std.pt",),
            _read_archive("mean_std.pt"),
            _REPACKED,
            _RAW_ZIP,
        ),
        Reader("TorchScript", _write("m.jit", _torchscript), ("m.jit",), _read_archive("m.jit"), _REPACKED, _RAW_ZIP),
        Reader(
            "legacy file",
            _write("model.pth", _legacy),
            ("model.pth",),
            _read_archive("model.pth"),
            (*ANYWHERE, pickle_program, pickle_program, pickle_program),
        ),
        Reader(
            "safetensors",
            _make_safetensors,
            ("model.safetensors",),
            _read_archive("model.safetensors"),
            (*ANYWHERE, *(in_header(change) for change in (*_JSON, json_value, json_value, json_value))),
        ),
        Reader(
            "index",
            _make_index,
            ("model.safetensors.index.json", "model.safetensors.index.json", "1.safetensors"),
            _read_archive("model.safetensors.index.json"),
            _JSON,
        ),
        Reader("settings of T5", _make_t5, ("config.json",), _read_t5, _JSON),
        Reader("settings of Llama", _language("llama")[0], ("config.json",), _language("llama")[1], _JSON),
        Reader("settings of Pixtral", _language("pixtral")[0], ("config.json",), _language("pixtral")[1], _JSON),
        Reader("settings of an adapter", _make_adapter, ("adapter_config.json",), _read_adapter, _JSON),
        Reader("converted network", _make_converted, ("config.json", "manifest.json"), _read_converted, _JSON),
        Reader(
            "calibration",
            _make_calibrated,
            ("calibration.json", "calibration.safetensors"),
            _read_calibrated,
            (*_JSON, *(in_header(change) for change in _JSON)),
        ),
        Reader(
            "embeddings",
            _make_embeddings,
            ("texts.safetensors",),
            _read_embeddings,
            (*ANYWHERE, *(in_header(change) for change in _JSON)),
        ),
        Reader(
            "cached embedding",
            _make_cache,
            (_CACHED,),
            _read_cache,
            (),
            (*ANYWHERE, *(in_header(change) for change in _JSON)),
        ),
        Reader(
            "pairs",
            _make_pairs,
            (f"{_STORE}/000000.npz",),
            _read_pairs,
            tuple(in_record(change) for change in ANYWHERE),
            (*ANYWHERE, zip_field),
        ),
        Reader(
            "prompt of a run",
            _make_pairs,
            (f"{_STORE}/prompt.txt",),
            _read_prompt,
            tuple(ANYWHERE),
            removable=_STORE,
        ),
        Reader("run record", _make_record, ("film.json",), _read_record, _JSON),
    )
}
