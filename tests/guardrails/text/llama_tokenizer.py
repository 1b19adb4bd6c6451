"""Tiny tokenizers with chat templates of the kinds that Llama Guard's two models have, in other words."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BEGIN, END = "<BEGIN UNSAFE CONTENT CATEGORIES>", "<END UNSAFE CONTENT CATEGORIES>"

LLAMA_3 = (
    "{% if categories is not defined %}{% set categories = {'S1': 'Rude Hats.', 'S2': 'Loud Socks.'} %}{% endif %}"
    "{{ bos_token + '<|header|>user<|/header|>\n\nJudge the last message.\n" + BEGIN + "\n' }}"
    "{% for key, name in categories.items() %}{{ key + ': ' + name + '\n' }}{% endfor %}"
    "{{ '" + END + "\n\n' }}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] | trim + '\n' }}{% endfor %}"
    "{{ eos_token + '<|header|>assistant<|/header|>\n\n' }}"
)
LLAMA_2 = (
    "{{ '[INST] Judge.\n" + BEGIN + "\nO1: Green Tea.\nShould not\n- Spill.\nO2: Cold Soup.\n" + END + "\n\n' }}"
    "{{ 'User: ' + messages[0]['content'] + '\n\n[/INST]' }}"
)
CONTROL_TOKENS = {
    LLAMA_3: ("<|begin|>", "<|eot|>", "<|eom|>", "<|header|>", "<|/header|>"),
    LLAMA_2: ("<s>", "</s>", "<unk>"),
}
NUM_TOKENS = 5 + 256


def write_files(folder: Path, template: str = LLAMA_3) -> Path:
    """Write `tokenizer.json`, one token for every byte, and the files that chats need to `folder`."""
    control = CONTROL_TOKENS[template]
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *control]
    tokenizer = Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in control])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    begin, end = control[:2]
    settings = {"chat_template": template, "bos_token": begin, "eos_token": {"__type": "AddedToken", "content": end}}
    write_json(folder / "tokenizer_config.json", settings | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write_json(folder / "generation_config.json", {"eos_token_id": [names.index(name) for name in control[1:3]]})
    return folder


def write_json(path: Path, values: object) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(values), "utf-8")
