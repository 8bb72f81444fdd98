"""The pocket model's language: how each look is named in prompts, and the vocabulary of the tokenizer.

The vocabulary also holds words that no look uses yet (palettes, light, texture, intensity, further looks, subjects), so
that later versions of the weights can learn them without a new tokenizer.
"""

from __future__ import annotations

import torch
from torch import Generator

NAMES: dict[str, tuple[str, ...]] = {
    "photo": ("photo", "photograph", "a photograph", "a colour photo", "natural photo", "realistic", "unchanged"),
    "pencil": ("pencil sketch", "pencil drawing", "a drawing in pencil", "sketched in pencil", "graphite sketch", "sketch"),
    "neon": ("neon outlines", "neon lines", "glowing neon", "neon light", "neon", "glowing outlines on black"),
    "cartoon": ("cartoon", "a cartoon", "comic cartoon with outlines", "cel shading", "anime style", "flat cartoon colours"),
    "oil": ("oil painting", "an oil painting", "painted in oil", "oil on canvas", "thick oil paint", "impasto brush strokes"),
    "thermal": ("thermal camera", "thermal image", "heat map", "infrared camera", "thermal", "heat vision"),
    "blueprint": ("blueprint", "a blueprint", "technical drawing on blue paper", "architect blueprint", "white lines on blue"),
    "watercolour": ("watercolour", "a watercolour painting", "watercolor", "painted in watercolour", "watercolor wash"),
    "pixel": ("pixel art", "pixels", "8 bit game", "pixelated", "retro game", "pixel blocks"),
    "halftone": ("halftone comic", "comic halftone dots", "halftone print", "pop art dots", "comic book print", "halftone"),
    "engraving": ("engraving", "an engraving", "woodcut", "etching", "engraved with lines", "black and white engraving"),
    "night_vision": ("night vision", "night vision goggles", "green night vision", "night scope"),
    "vintage": ("vintage photo", "sepia", "old sepia photograph", "sepia tone", "antique photograph", "vintage"),
    "vaporwave": ("vaporwave", "synthwave", "synthwave poster", "vaporwave pink and cyan", "retro synthwave"),
    "relief": ("stone relief", "carved stone", "relief", "bas relief", "carved in stone", "stone carving"),
}

TEMPLATES = (
    "{}", "{}", "{}", "a picture as {}", "{} style", "in the style of {}", "{} of a scene", "turn this into {}", "make it {}",
    "{}, high quality", "{} , detailed", "beautiful {}", "the scene as {}", "as {}",
)  # fmt: skip

_SUBJECTS = """
person man woman child face portrait people hand eyes cat dog horse bird animal tree flower forest mountain city street
house tower bridge car bike boat sea lake river sky cloud sun moon star planet room table cup food fruit book robot castle
"""

# Words for later weights: further looks, palettes, light, texture and line, intensity, places.
_RESERVED = """
charcoal chalk pastel crayon ink pen marker line lines outline outlines contour doodle gouache acrylic fresco fauvism
impressionist expressionist cubist pointillism abstract mosaic stained glass tile tapestry embroidery knitted felt paper
cutout origami risograph screenprint lithograph linocut stencil graffiti poster stamp newspaper print cyanotype
daguerreotype polaroid film noir negative x ray solarized infrared long exposure bokeh tilt shift hologram glitch vhs crt
scanline terminal ascii matrix lowpoly voxel clay plasticine marble bronze gold golden silver copper chrome metal wood
wooden ice frozen fire flame lava water underwater smoke fog foggy mist misty rain rainy snow snowy storm cloudy sunny
sunset sunrise dawn dusk night day noon hour light lit backlit candle moonlight spotlight glow glowing dark bright dim
shadow shadows silhouette high low contrast key warm cool cold hot colour colours color colors colourful monochrome black
white grey gray red orange yellow green cyan teal blue indigo violet purple magenta pink brown beige cream pale vivid
muted saturated soft hard rough smooth fine thick thin bold delicate loose tight wet dry grain grainy noisy clean textured
canvas brush strokes dots hatching crosshatch stipple wash splash drip slightly little very strongly extremely subtle
strong half more less much not no and or of the a an in on with by at to from as for style look picture image painting
drawing art artwork scene detailed beautiful simple minimal retro modern ancient old new futuristic fantasy dream dreamy
cyberpunk steampunk gothic baroque japanese ukiyo e wave pattern desert beach field garden island valley waterfall galaxy
nebula aurora lights skyline leaf petals rose sunflower tulip summer autumn winter spring
"""

_GLUE = "turn this into make it quality"

SUBJECTS = tuple(_SUBJECTS.split())


def vocabulary_words() -> list[str]:
    """Every word that must be one token, most important first, without duplicates."""
    named = " ".join(name for names in NAMES.values() for name in names).split()
    templates = " ".join(TEMPLATES).replace("{}", " ").replace(",", " ").split()
    return list(dict.fromkeys([*named, *templates, *_GLUE.split(), *SUBJECTS, *_RESERVED.split()]))


def caption(look: str, rng: Generator) -> str:
    """One prompt for a look: a name in a template, sometimes with a subject or an unknown word that changes nothing."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(torch.randint(0, len(options), (), generator=rng))]

    text = pick(TEMPLATES).format(pick(NAMES[look]))
    chance = float(torch.rand((), generator=rng))
    if chance < 0.25:
        text = f"{text} of a {pick(SUBJECTS)}" if chance < 0.15 else f"{pick(SUBJECTS)}, {text}"
    elif chance < 0.4:
        letters = [chr(97 + int(k)) for k in torch.randint(0, 26, (int(torch.randint(3, 9, (), generator=rng)),), generator=rng)]
        text = f"{text} {''.join(letters)}" if chance < 0.33 else f"{''.join(letters)} {text}"
    return text
