"""The tower that reads images, and the projector that makes tokens of them."""

from dataclasses import dataclass

from app.engine.flops.config import HIDDEN, Config, find, size, text_config
from app.engine.flops.layers import Layers

_GATED = frozenset({"pixtral", "qwen2_5_vl", "qwen2_5_vl_vision"})
"""Values of `model_type` of towers whose MLP has a gate."""


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """Where an image stands in a prompt.

    Attributes:
        start: position of its first token.
        length: its tokens, with those that only mark its rows or its end.
        encoded: how many of them have a vector that the vision tower computes.

    """

    start: int
    length: int
    encoded: int

    @property
    def end(self) -> int:
        """The position behind its last token."""
        return self.start + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTower:
    """What an image costs before the decoder reads its tokens.

    Attributes:
        layers: of the tower, for one patch.
        per_token: FLOPs of the projector for one of the tokens that the decoder reads.
        patches_per_token: how many patches become one token.
        extra_patches: positions that become no token, as a class token.
        tokens_per_tile: of a tower that reads squares of one size, into which an image is cut; patches attend within their square. None
            where an image is read in one piece.

    """

    layers: tuple[Layers, ...]
    per_token: int
    patches_per_token: int = 1
    extra_patches: int = 0
    tokens_per_tile: int | None = None

    def image(self, num_tokens: int) -> int:
        """Return the FLOPs of one image that becomes `num_tokens` tokens of the prompt."""
        num_tiles, rest = divmod(num_tokens, self.tokens_per_tile or num_tokens or 1)
        return num_tiles * self._tile(self.tokens_per_tile or num_tokens) + (self._tile(rest) if rest else 0)

    def _tile(self, num_tokens: int) -> int:
        patches = num_tokens * self.patches_per_token + self.extra_patches
        return num_tokens * self.per_token + sum(one.encode(patches) for one in self.layers)


def read_vision(config: Config) -> VisionTower | None:
    """Return the tower of a multimodal model's config; None where there is none, or one that is not known.

    Raises:
        ValueError: the config lacks a size.

    """
    tower, model = config.get("vision_config"), config.get("model_type", "")
    if not tower:
        return None
    hidden = size(text_config(config), *HIDDEN)
    if model.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")):
        return _qwen(tower, model)
    width, layers = _tower(config, tower)
    if model == "llava":
        has_class = find(config, "vision_feature_select_strategy") != "full"
        projector = hidden * (width + hidden)
        extra = int(has_class)
        return VisionTower(layers=layers, per_token=2 * projector, extra_patches=extra, tokens_per_tile=_patches(tower))
    if model == "gemma3":
        tokens = size(config, "mm_tokens_per_image")
        merged = _patches(tower) // tokens
        return VisionTower(layers=layers, per_token=2 * width * hidden, patches_per_token=merged, tokens_per_tile=tokens)
    if model == "mistral3":
        merged = size(config, "spatial_merge_size") ** 2
        projector = merged * width * width + width * hidden + hidden * hidden
        return VisionTower(layers=layers, per_token=2 * projector, patches_per_token=merged)
    if model in {"idefics3", "smolvlm"}:
        merged = size(config, "scale_factor") ** 2
        tokens, projector = _patches(tower) // merged, merged * width * hidden
        return VisionTower(layers=layers, per_token=2 * projector, patches_per_token=merged, tokens_per_tile=tokens)
    if model == "internvl":
        merged = round(1 / find(config, "downsample_ratio")) ** 2
        projector = hidden * (merged * width + hidden)
        return VisionTower(
            layers=layers,
            per_token=2 * projector,
            patches_per_token=merged,
            extra_patches=1,
            tokens_per_tile=_patches(tower) // merged,
        )
    return None


def _tower(config: Config, tower: Config) -> tuple[int, tuple[Layers, ...]]:
    """Return the width and the layers of a vision transformer in which every patch attends to every other."""
    hidden, count = size(tower, "hidden_size"), size(tower, "num_hidden_layers")
    if config.get("model_type") == "llava":
        chosen = find(config, "vision_feature_layer")  # the engine computes no layers behind the last one that is used
        count = max(one % (count + 1) for one in (chosen if isinstance(chosen, list) else [chosen]))
    return hidden, (_embedding(tower, hidden), _layers(tower, hidden, count))


def _embedding(tower: Config, hidden: int) -> Layers:
    frames = find(tower, "temporal_patch_size") or 1  # Qwen's towers read an image as two equal frames
    values = _side(tower) ** 2 * (find(tower, "num_channels", "in_channels") or 3) * frames
    return Layers(per_token=2 * values * hidden)


def _layers(tower: Config, hidden: int, count: int, window: int | None = None) -> Layers:
    inner = find(tower, "intermediate_size") or round(hidden * find(tower, "mlp_ratio"))
    matrices = 3 if tower.get("model_type") in _GATED else 2
    products = hidden * (4 * hidden + matrices * inner)
    return Layers(per_token=2 * products, per_position=4 * hidden, window=window, count=count)


def _patches(tower: Config) -> int:
    """Return the number of patches of an image of the size that the tower reads."""
    return (size(tower, "image_size", layer=0) // _side(tower)) ** 2


def _side(tower: Config) -> int:
    return size(tower, "patch_size", layer=0)  # some configs give height and width


def _qwen(tower: Config, model: str) -> VisionTower:
    hidden, depth = size(tower, "embed_dim", "hidden_size"), size(tower, "depth")
    merged = size(tower, "spatial_merge_size") ** 2
    out = size(tower, "hidden_size") if model.startswith("qwen2_vl") else size(tower, "out_hidden_size")
    merger = merged * hidden * (merged * hidden + out)
    deep = len(find(tower, "deepstack_visual_indexes") or ())  # Qwen3-VL merges the patches of some layers too
    window = find(tower, "window_size")
    full = len(find(tower, "fullatt_block_indexes")) if window else depth
    groups = [_embedding(tower, hidden), _layers(tower, hidden, full)]
    if full < depth:
        groups.append(_layers(tower, hidden, depth - full, (window // _side(tower)) ** 2))
    return VisionTower(layers=tuple(groups), per_token=2 * merger * (1 + deep), patches_per_token=merged)
