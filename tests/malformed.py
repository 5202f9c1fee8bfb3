"""Some 380 adapters that must be refused: truncated, misshapen, absurd, not finite, pickled, linked, traversing, made for others.

Generated for a base model, so that each is wrong in one thing only. Used by the tests, on the scripted engine and on vLLM.
"""

import io
import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from adapters.weights import BaseModel
from tests.peft_folder import CONFIG, tensor_name, tensors

RANK = 4
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PONDER_CONFIG_FILE = "ponder.json"
VERIFIER_PROMPT = {"template": "\nIs this answer correct (Yes or No)?", "yes": " Yes", "no": " No"}
MODULE = "v_proj"


@dataclass(frozen=True)
class Case:
    """One request that must be refused. `field`: what the error must name; `body` for JSON, else a form with `files`."""

    name: str
    field: str
    files: tuple[tuple[str, tuple[str, bytes]], ...] = ()
    body: dict[str, Any] | None = None
    adapter: str = "malformed"

    def request(self) -> dict[str, Any]:
        """Arguments of httpx's `post`."""
        if self.body is not None:
            return {"json": {"name": self.adapter, **self.body}}
        return {"data": {"name": self.adapter}, "files": list(self.files)}


@dataclass(frozen=True)
class Parts:
    """A good adapter, from which bad ones are made."""

    base: BaseModel
    config: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def case(
        self,
        name: str,
        field: str,
        *,
        config: bytes | None = None,
        weights: bytes | None = None,
        ponder_config: bytes | None = None,
    ) -> Case:
        """An upload of both files, and of a `ponder.json` if given, one of which is bad."""
        config = json.dumps(self.config).encode() if config is None else config
        weights = save(self.arrays) if weights is None else weights
        files = (("files", (CONFIG_FILE, config)), ("files", (WEIGHTS_FILE, weights)))
        return Case(name, field, files if ponder_config is None else (*files, ("files", (PONDER_CONFIG_FILE, ponder_config))))

    def with_verifier_prompt(self, name: str, field: str, **fields: Any) -> Case:
        """A bad verifier prompt; a field set to `...` is left out."""
        merged = {key: value for key, value in {**VERIFIER_PROMPT, **fields}.items() if value is not ...}
        return self.case(
            name,
            f"{PONDER_CONFIG_FILE}:verifier_prompt.{field}",
            ponder_config=json.dumps({"verifier_prompt": merged}).encode(),
        )

    def with_config(self, name: str, field: str, **fields: Any) -> Case:
        """A bad config; a field set to `...` is left out."""
        merged = {key: value for key, value in {**self.config, **fields}.items() if value is not ...}
        return self.case(name, f"{CONFIG_FILE}:{field}" if field else CONFIG_FILE, config=json.dumps(merged).encode())

    def with_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> Case:
        """The tensors spoiled."""
        return self.case(name, WEIGHTS_FILE, weights=save(arrays))


def good(base: BaseModel) -> Parts:
    """An adapter that would be taken."""
    config = {**CONFIG, "r": RANK, "lora_alpha": 8, "target_modules": [MODULE]}
    return Parts(base, config, tensors(base, rank=RANK, modules=[MODULE], layers=[0, 1]))


def cases(base: BaseModel, import_root: Path, max_rank: int) -> list[Case]:
    """All of them; what is needed in the import folder is made there."""
    parts = good(base)
    makers = (_truncated, _headers, _shapes, _numbers, _configs, _ponder_configs, _missing, _names)
    found = [case for make in makers for case in make(parts)]
    found += [*_ranks(parts, max_rank), *_archives(parts), *_paths(parts, import_root)]
    return found


def _truncated(parts: Parts) -> Iterator[Case]:
    whole = save(parts.arrays)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    cuts = [0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 4, len(whole) - 1]
    cuts += [header * part // 8 for part in range(1, 8)] + [header + (len(whole) - header) * part // 8 for part in range(1, 8)]
    for cut in sorted(set(cuts)):
        yield parts.case(f"weights cut at {cut}", WEIGHTS_FILE, weights=whole[:cut])
    yield parts.case("weights with a tail", WEIGHTS_FILE, weights=whole + b"\0" * 16)
    text = json.dumps(parts.config).encode()
    for part in range(8):
        yield parts.case(f"config cut at {part}/8", CONFIG_FILE, config=text[: len(text) * part // 8])


def _headers(parts: Parts) -> Iterator[Case]:
    whole = save(parts.arrays)
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    first, second = sorted(name for name in header if name != "__metadata__")[:2]

    def spoiled(name: str, change: Any) -> Case:
        copy = json.loads(json.dumps(header))
        change(copy)
        text = json.dumps(copy).encode()
        return parts.case(f"header: {name}", WEIGHTS_FILE, weights=struct.pack("<Q", len(text)) + text + data)

    yield spoiled("overlapping", lambda h: h[second].update(data_offsets=h[first]["data_offsets"]))
    yield spoiled("offsets reversed", lambda h: h[first].update(data_offsets=h[first]["data_offsets"][::-1]))
    yield spoiled("offsets beyond the end", lambda h: h[first].update(data_offsets=[0, 10**12]))
    yield spoiled("negative offsets", lambda h: h[first].update(data_offsets=[-8, 8]))
    yield spoiled("negative shape", lambda h: h[first].update(shape=[-1, -4]))
    yield spoiled("shape that overflows", lambda h: h[first].update(shape=[2**62, 2**62]))
    yield spoiled("no shape", lambda h: h[first].pop("shape"))
    yield spoiled("shape of text", lambda h: h[first].update(shape=["4", "x"]))
    for dtype in ("F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F128", "object"):
        yield spoiled(f"dtype {dtype}", lambda h, dtype=dtype: h[first].update(dtype=dtype))
    yield spoiled("a tensor twice as many", lambda h: h.update({"again": h[first]}))
    yield spoiled("no tensors", lambda h: h.clear())
    for name, text in (
        ("not JSON", b"not json at all "), ("a list", b"[]      "), ("deep", b"[" * 2000), ("null", b"null    "), ("empty", b""),
    ):  # fmt: skip
        yield parts.case(f"header: {name}", WEIGHTS_FILE, weights=struct.pack("<Q", len(text)) + text + data)
    for length in (2**63, 2**64 - 1, 10**9, len(whole) + 1):
        yield parts.case(f"header of {length} bytes", WEIGHTS_FILE, weights=struct.pack("<Q", length) + whole[8:])
    for name, content in (
        ("a pickle", pickle.dumps({"a": 1})), ("a torch zip", _zip({"archive/data.pkl": pickle.dumps([1])})), ("text", b"hello"),
        ("zeros", b"\0" * 4096), ("an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 64), ("a git-lfs pointer", b"version https://git-lfs"),
    ):  # fmt: skip
        yield parts.case(f"weights are {name}", WEIGHTS_FILE, weights=content)


def _shapes(parts: Parts) -> Iterator[Case]:
    for module, (inputs, outputs) in parts.base.modules.items():
        for side, wrong in (
            ("A", (RANK, inputs + 1)),
            ("A", (inputs, RANK)),
            ("B", (outputs - 1, RANK)),
            ("B", (RANK, outputs)),
        ):
            arrays = tensors(parts.base, rank=RANK, modules=[module], layers=[0])
            arrays[tensor_name(0, module, side)] = np.zeros(wrong, np.float32)
            spoiled = replace(parts, config={**parts.config, "target_modules": [module]})
            yield spoiled.with_arrays(f"{module} {side} of shape {wrong}", arrays)
    a = tensor_name(0, MODULE, "A")
    for name, shape in (
        ("flat", (RANK * parts.base.modules[MODULE][0],)),
        ("three axes", (1, *parts.arrays[a].shape)),
        ("empty", (0, 0)),
    ):
        yield parts.with_arrays(f"a tensor that is {name}", {**parts.arrays, a: np.zeros(shape, np.float32)})
    layers, (inputs, outputs) = parts.base.num_layers, parts.base.modules[MODULE]
    for name, layer in (("one layer too many", layers), ("a hundred layers", 100), ("layer 9999", 9999)):
        more = tensors(parts.base, rank=RANK, modules=[MODULE], layers=[layer])
        yield parts.with_arrays(f"wrong base: {name}", {**parts.arrays, **more})
    for factor in (2, 4, 7):
        wide = replace(parts.base, modules={MODULE: (factor * inputs, factor * outputs)})
        yield parts.with_arrays(f"wrong base: {factor} times as wide", tensors(wide, rank=RANK, modules=[MODULE], layers=[0]))


def _numbers(parts: Parts) -> Iterator[Case]:
    for name in parts.arrays:
        for value in (np.nan, np.inf, -np.inf, -60000.0):
            for kind in (np.float32, np.float16):
                arrays = {key: array.astype(kind) for key, array in parts.arrays.items()}
                arrays[name].flat[-1] = value
                yield parts.with_arrays(f"{value} as {kind.__name__} in {name[-40:]}", arrays)
    yield parts.with_arrays("numbers of 3e38", {name: np.full_like(array, 3e38) for name, array in parts.arrays.items()})
    huge = replace(parts, config={**parts.config, "lora_alpha": 1e6})
    yield huge.with_arrays("a scale that makes them huge", {name: np.ones_like(array) for name, array in parts.arrays.items()})
    for kind in (np.float64, np.int64, np.int8, np.bool_):
        yield parts.with_arrays(
            f"numbers of {kind.__name__}", {name: array.astype(kind) for name, array in parts.arrays.items()}
        )
    whole = bytearray(save({name: array.view(np.uint16)[:, ::2].copy() for name, array in parts.arrays.items()}))
    (length,) = struct.unpack("<Q", whole[:8])
    text = bytes(whole[8 : 8 + length]).replace(b'"U16"', b'"BF16"')
    for bits in (0x7FC0, 0x7F80, 0xFF80):
        data = bytearray(len(whole) - 8 - length)
        data[-2:] = struct.pack("<H", bits)
        yield parts.case(f"bfloat16 {bits:x}", WEIGHTS_FILE, weights=struct.pack("<Q", len(text)) + text + bytes(data))


def _ranks(parts: Parts, max_rank: int) -> Iterator[Case]:
    for rank in (0, -1, -(10**9), 10**9, 2**31, 2**63, 2.5, "4", None, True, [4], max_rank + 1):
        yield parts.with_config(f"rank {rank!r}", "r", r=rank)
    yield parts.case("rank of 5000 digits", CONFIG_FILE, config=b'{"peft_type": "LORA", "r": ' + b"9" * 5000 + b"}")
    for rank in (RANK - 1, RANK + 1):
        spoiled = replace(parts, config={**parts.config, "r": rank})
        yield spoiled.with_arrays(f"tensors of another rank than {rank}", parts.arrays)


def _configs(parts: Parts) -> Iterator[Case]:
    for field, value in (
        ("use_dora", True), ("modules_to_save", ["lm_head"]), ("lora_bias", True), ("fan_in_fan_out", True), ("rank_pattern", {"q": 2}),
        ("alpha_pattern", {"q": 2}), ("layer_replication", [[0, 1]]), ("target_parameters", ["x"]), ("trainable_token_indices", [1]),
        ("alora_invocation_tokens", [1]), ("use_qalora", True), ("use_bdlora", {"x": 1}), ("megatron_config", {"x": 1}),
        ("bias", "all"), ("bias", "lora_only"), ("task_type", "SEQ_CLS"), ("task_type", "FEATURE_EXTRACTION"),
        ("peft_type", "IA3"), ("peft_type", "PREFIX_TUNING"), ("peft_type", "ADALORA"), ("peft_type", None), ("peft_type", ...),
        ("init_lora_weights", "pissa"), ("init_lora_weights", "pissa_niter_4"), ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"), ("init_lora_weights", "loftq"), ("target_modules", "all-linear"), ("target_modules", []),
        ("target_modules", ".*v_proj"), ("target_modules", [1]), ("target_modules", None), ("target_modules", ...), ("r", ...),
        ("lora_alpha", 0), ("lora_alpha", -8), ("lora_alpha", 1e300), ("lora_alpha", "8"), ("lora_alpha", None), ("use_rslora", "yes"),
        ("something_new", True), ("something_new", {"x": 1}), ("__class__", "os.system"),
    ):  # fmt: skip
        yield parts.with_config(f"config: {field} = {value!r}"[:80], field, **{field: value})
    for name, value in (("NaN", b"NaN"), ("Infinity", b"Infinity"), ("1e999", b"1e999")):
        text = json.dumps({**parts.config, "lora_alpha": "?"}).encode().replace(b'"?"', value)
        yield parts.case(f"config: lora_alpha = {name}", CONFIG_FILE, config=text)
    for name, text in (
        ("half a character", b'{"\\ud800": 1}'), ("twice the rank", json.dumps(parts.config).encode()[:-1] + b', "r": 4}'),
        ("a list", b"[]"), ("null", b"null"), ("text", b'"x"'), ("a pickle", pickle.dumps(parts.config)), ("deep", b"[" * 100_000),
        ("not UTF-8", b'{"r": "\xff\xfe"}'), ("too large", b'{"r": "' + b"x" * 300_000 + b'"}'), ("YAML", b"r: !!python/object:os.system"),
    ):  # fmt: skip
        yield parts.case(f"config is {name}", CONFIG_FILE if name != "too large" else "files", config=text)


def _ponder_configs(parts: Parts) -> Iterator[Case]:
    for field, value in (
        ("template", ""), ("template", "x" * 8193), ("template", None), ("template", ...), ("template", 1), ("template", ["{answer}"]),
        ("template", "{question}?"), ("template", "{step}?"), ("template", "{question} {step}?"), ("template", "{answer} {Question}"),
        ("template", "{answer} {context}"), ("template", "{__class__}"), ("template", "{{answer}} {{x}}"), ("template", "\ud800"),
        ("yes", ""), ("yes", "y" * 65), ("yes", None), ("yes", ...), ("yes", True), ("yes", [" Yes"]), ("no", ""), ("no", "n" * 65),
        ("no", None), ("no", ...), ("no", False), ("no", VERIFIER_PROMPT["yes"]), ("maybe", " Maybe"),
        ("Yes", " Yes"), ("__class__", "os.system"),
    ):  # fmt: skip
        case = parts.with_verifier_prompt(f"ponder.json: {field} = {value!r}"[:80], field, **{field: value})
        yield replace(case, field=PONDER_CONFIG_FILE) if value == "\ud800" else case
    prompt = json.dumps(VERIFIER_PROMPT).encode()
    whole = b'{"verifier_prompt": ' + prompt + b"}"
    old = whole.replace(b"verifier_prompt", b"inquiry")
    for name, text in (
        ("a list", b"[]"), ("null", b"null"), ("text", b'"x"'), ("nothing", b""), ("a pickle", pickle.dumps({})),
        ("deep", b"[" * 60_000), ("deep within", b'{"verifier_prompt": ' * 3_000),
        ("a deep value", b'{"x": ' + b"[" * 900 + b"]" * 900 + b"}"),
        ("UTF-16", whole.decode().encode("utf-16")), ("not UTF-8", whole.replace(b"Yes", b"\xff\xfe")),
        ("YAML", b"verifier_prompt: !!python/x"),
        ("an empty object", b"{}"), ("a prompt of null", b'{"verifier_prompt": null}'),
        ("a prompt in a list", b'{"verifier_prompt": [' + prompt + b"]}"), ("an old prompt of null", b'{"inquiry": null}'),
        ("a prompt twice", whole[:-1] + b', "verifier_prompt": {}}'), ("an old prompt twice", old[:-1] + b', "inquiry": {}}'),
        ("an old and a new prompt", old[:-1] + b', "verifier_prompt": ' + prompt + b"}"), ("yes twice", whole.replace(b'"no"', b'"yes"')),
        ("half a character in a name", b'{"\\udc00": 1}'), ("half a character twice", b'{"\\udc00": 1, "\\udc00": 1}'),
        ("a field more", whole[:-1] + b', "weights": "http://example.org"}'), ("a long name", b'{"' + b"x" * 60_000 + b'": 1}'),
        ("5000 digits", b'{"verifier_prompt": ' + b"9" * 5000 + b"}"), ("NaN", b'{"verifier_prompt": NaN}'), ("with a tail", whole + b"{}"),
        *((f"cut at {part}/4", whole[: len(whole) * part // 4]) for part in range(1, 4)),
    ):  # fmt: skip
        yield parts.case(f"ponder.json is {name}", PONDER_CONFIG_FILE, ponder_config=text)
    yield parts.case("ponder.json too large", "files", ponder_config=whole + b" " * 65_536)
    good_one = parts.case("ponder.json twice", "files", ponder_config=whole)
    yield replace(good_one, files=(*good_one.files, good_one.files[-1]))


def _missing(parts: Parts) -> Iterator[Case]:
    config, weights = json.dumps(parts.config).encode(), save(parts.arrays)
    both = (("files", (CONFIG_FILE, config)), ("files", (WEIGHTS_FILE, weights)))
    yield Case("no weights", WEIGHTS_FILE, both[:1])
    yield Case("no config", CONFIG_FILE, both[1:])
    for name in (
        "adapter_model.bin",
        "adapter_model.pt",
        "optimizer.pt",
        "training_args.bin",
        "x.pkl",
        "setup.py",
        "run.sh",
        "x.so",
    ):
        yield Case(f"with {name}", "files", (*both, ("files", (name, pickle.dumps({"x": 1})))))
    yield Case("two configs", "files", (*both, both[0]))
    yield Case("two weights", "files", (*both, both[1]))
    a, b = tensor_name(0, MODULE, "A"), tensor_name(0, MODULE, "B")
    for left_out in (a, b):
        yield parts.with_arrays(f"without {left_out[-14:]}", {n: v for n, v in parts.arrays.items() if n != left_out})
    some = np.zeros((2, 2), np.float32)
    for name in (
        "lm_head.weight", "base_model.model.lm_head.lora_A.weight", "base_model.model.model.embed_tokens.lora_embedding_A",
        a.replace("lora_A", "lora_magnitude_vector"), a.replace("lora_A.weight", "lora_A.bias"), a.replace(".layers.0.", ".layers.-1."),
        a.replace("model.model.", "model.model.model."), a.replace(MODULE, "q_proj"), a.replace(MODULE, "experts"), "../../etc/passwd", "",
    ):  # fmt: skip
        yield parts.with_arrays(f"with a tensor `{name[-40:]}`", {**parts.arrays, name: some})


def _names(parts: Parts) -> Iterator[Case]:
    for name in (
        "", ".", "..", "../x", "/etc/x", "a/b", "a\\b", "a b", ".hidden", "x" * 65, "a:b", "a@b", "ä", "a\nb", "%2e%2e", "-;rm",
        parts.base.name,
    ):  # fmt: skip
        yield replace(parts.case(f"name {name!r}"[:60], "name"), adapter=name)


def _zip(entries: dict[str, bytes], *, kind: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = kind << 16, method
            archive.writestr(info, content)
    return out.getvalue()


def _many_entries(number: int) -> bytes:
    """A directory of so many entries that all stand for one file: small to send, large to read."""
    whole = _zip({"README.md": b""})
    first, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    directory = whole[first:end] * number
    return whole[:first] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), first, 0)


def _archives(parts: Parts) -> Iterator[Case]:
    both = {CONFIG_FILE: json.dumps(parts.config).encode(), WEIGHTS_FILE: save(parts.arrays)}
    whole = _zip(both)

    def case(name: str, content: bytes, field: str = "archive") -> Case:
        return Case(f"archive: {name}", field, (("archive", ("adapter.zip", content)),))

    for name in (
        "../adapter_config.json", "/adapter_config.json", "a/../../adapter_config.json", "..\\adapter_config.json",
        "C:\\adapter_config.json",
        "a/b/adapter_config.json", "x/y/z/../../../../adapter_config.json", "../../../../root/.ssh/authorized_keys",
    ):  # fmt: skip
        yield case(name, _zip({**both, name: b"{}"}))
    yield case("links", _zip({CONFIG_FILE: both[CONFIG_FILE], WEIGHTS_FILE: b"/etc/passwd"}, kind=stat.S_IFLNK | 0o777))
    yield case("a device", _zip(both, kind=stat.S_IFCHR | 0o666))
    yield case("a pickle inside", _zip({**both, "adapter_model.bin": pickle.dumps(1)}))
    yield case("a script inside", _zip({**both, "run.py": b"import os"}))
    yield case("a zip inside", _zip({"inner.zip": whole}))
    yield case("a bomb in the config", _zip({**both, CONFIG_FILE: b" " * 50_000_000}))
    yield case("a bomb in the weights", _zip({**both, WEIGHTS_FILE: b"\0" * 300_000_000}))
    yield case("a thousand files", _zip({**both, **{f"README{i}.md": b"" for i in range(1000)}}))
    yield case("a hundred thousand entries", _many_entries(100_000))
    yield case("a bomb in ponder.json", _zip({**both, PONDER_CONFIG_FILE: b" " * 50_000_000}))
    yield case("ponder.json twice", _zip({**both, PONDER_CONFIG_FILE: b"{}", f"x/{PONDER_CONFIG_FILE}": b"{}"}))
    yield case("a wrong ponder.json", _zip({**both, PONDER_CONFIG_FILE: b"{}"}), PONDER_CONFIG_FILE)
    yield case("the config twice", _zip({**both, f"x/{CONFIG_FILE}": b"{}"}))
    yield case("nothing in it", _zip({}), CONFIG_FILE)
    yield case("no weights in it", _zip({CONFIG_FILE: both[CONFIG_FILE]}), WEIGHTS_FILE)
    yield case("not a zip", b"PK\x03\x04 but not really")
    yield case("empty", b"")
    yield case("a tar", b"ustar" * 200)
    for part in (4, 2):
        yield case(f"cut at 1/{part}", whole[: len(whole) // part])
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    yield case("a flipped bit", bytes(middle))
    encrypted = bytearray(whole)
    for at in (whole.index(b"PK\x03\x04") + 6, whole.index(b"PK\x01\x02") + 8):
        encrypted[at] |= 1
    yield case("encrypted", bytes(encrypted))
    liar = bytearray(whole)
    at = whole.index(b"PK\x01\x02")
    liar[at + 24 : at + 28] = struct.pack("<I", 4)
    yield case("a size that lies", bytes(liar))


def _paths(parts: Parts, root: Path) -> Iterator[Case]:
    """The import folder gets a good adapter, links to it and to what is outside, and things that are no files."""
    outside = root.parent / "outside"
    whole = [root / "good", outside, *(root / f"prompt-{kind}" for kind in ("linked", "pipe", "folder", "wrong", "large"))]
    for folder in (*whole, root / "pipe", root / "bin", root / "linked-file", root / "folder"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(json.dumps(parts.config))
    for folder in whole:
        (folder / WEIGHTS_FILE).write_bytes(save(parts.arrays))
    (outside / PONDER_CONFIG_FILE).write_text(json.dumps({"verifier_prompt": VERIFIER_PROMPT}))
    (root / "prompt-folder" / PONDER_CONFIG_FILE).mkdir(exist_ok=True)
    (root / "prompt-wrong" / PONDER_CONFIG_FILE).write_text("{}")
    (root / "prompt-large" / PONDER_CONFIG_FILE).write_bytes(b" " * 65_537)
    (root / "bin" / "adapter_model.bin").write_bytes(pickle.dumps({"x": 1}))
    (root / "folder" / WEIGHTS_FILE).mkdir(exist_ok=True)
    if not (root / "pipe" / WEIGHTS_FILE).exists():
        os.mkfifo(root / "pipe" / WEIGHTS_FILE)
        os.mkfifo(root / "prompt-pipe" / PONDER_CONFIG_FILE)
        (root / "prompt-linked" / PONDER_CONFIG_FILE).symlink_to(outside / PONDER_CONFIG_FILE)
        (root / "linked-file" / WEIGHTS_FILE).symlink_to(outside / WEIGHTS_FILE)
        (root / "linked-folder").symlink_to(outside, target_is_directory=True)
        (root / "linked-good").symlink_to(root / "good", target_is_directory=True)
        (root / "up").symlink_to("..", target_is_directory=True)
    for path in (
        "../outside", "good/../../outside", "/etc", str(outside), "..", ".", "/", "./", "no-such-folder", "good/no-such", "~", "~root",
        "linked-file", "linked-folder", "linked-good", "up/outside", "up/import/good", "pipe", "bin", "folder", "good\0", "x" * 4000,
        f"good/{WEIGHTS_FILE}", "file:///etc", "https://example.org/adapter", "meta/llama-adapter", "/proc/self/cwd", "$HOME",
        "prompt-linked", "prompt-pipe", "prompt-folder", "prompt-large",
    ):  # fmt: skip
        yield Case(f"path {path!r}"[:60], "path", body={"path": path})
    yield Case("path of a wrong ponder.json", PONDER_CONFIG_FILE, body={"path": "prompt-wrong"})
