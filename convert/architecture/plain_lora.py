"""The settings of a LoRA adapter in PEFT's files; every variant but plain LoRA is refused."""

from convert.architecture.settings import CheckpointSettings

_IRRELEVANT = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "runtime_config"),
    *("exclude_modules", "layers_pattern", "layers_to_transform", "target_modules", "task_type"),
    *("init_lora_weights", "lora_dropout", "megatron_core", "qalora_group_size"),
}
"""Settings of training, and of which weights were trained: the keys of the file tell that."""
_KNOWN = {"bias", "lora_alpha", "peft_type", "r"}


def expect_plain(settings: CheckpointSettings) -> tuple[int, float]:
    """Return rank and alpha, and note every setting that is not plain LoRA's, for `settings.check` to raise."""
    settings.expect("peft_type", "LORA")
    settings.expect("bias", "none", default="none")
    # Other ways to start change the base's weights too.
    settings.expect("init_lora_weights", True, False, "gaussian", default=True)
    for key, value in settings.entries().items():
        if value and key not in _KNOWN | _IRRELEVANT:
            settings.fault(key, "which is not plain LoRA and cannot be merged")
    return settings.integer("r"), settings.number("lora_alpha")
