"""The pocket model's language: how looks, modifiers and scenes are named in prompts, and the vocabulary of the tokenizer.

`caption` writes the prompt of a request for training; `parse` reads one by rules, for tests and evaluation.
"""

from __future__ import annotations

import re

import torch
from torch import Generator

from training.looks import GROUP_OF
from training.teacher import PLAINLY, SLIGHTLY, VERY, Request

# The first name is the one that sheets, the page and the list of looks use.
NAMES: dict[str, tuple[str, ...]] = {
    "photo": ("photo", "photograph", "a photograph", "a colour photo", "natural photo", "realistic", "unchanged"),
    "vintage": ("vintage photo", "sepia", "old sepia photograph", "sepia tone", "antique photograph", "vintage"),
    "noir": ("film noir", "noir", "dramatic noir photo", "hard shadows noir", "noir movie", "noir cinema"),
    "xray": ("x ray", "an x ray image", "xray", "medical x ray", "radiograph", "x ray plate"),
    "thermal": ("thermal camera", "thermal image", "heat map", "infrared camera", "thermal", "heat vision"),
    "pencil": (
        "pencil sketch", "pencil drawing", "a drawing in pencil", "sketched in pencil", "graphite sketch", "sketch", "pencil",
        "drawing", "sketched", "drawn with a pencil",
    ),
    "charcoal": ("charcoal drawing", "charcoal", "drawn in charcoal", "charcoal sketch", "smudged charcoal", "a charcoal study"),
    "ink": ("ink drawing", "ink", "pen and ink", "black ink lines", "drawn in ink", "brush and ink", "line art"),
    "crayon": ("crayon drawing", "coloured pencils", "colored pencils", "crayons", "crayon", "drawn with crayons", "wax crayon"),
    "chalk": ("chalk drawing", "chalk", "chalk on a blackboard", "chalkboard", "blackboard", "drawn with chalk"),
    "blueprint": ("blueprint", "a blueprint", "technical drawing on blue paper", "architect blueprint", "white lines on blue"),
    "oil": (
        "oil painting", "an oil painting", "painted in oil", "oil on canvas", "thick oil paint", "impasto brush strokes",
        "painting", "painted", "oil",
    ),
    "watercolour": (
        "watercolour", "a watercolour painting", "watercolor", "painted in watercolour", "watercolor wash", "aquarelle",
    ),
    "impressionist": (
        "impressionist painting", "impressionist", "impressionism", "pointillism", "dabs of paint", "painted in dabs", "monet",
    ),
    "ukiyo_e": ("japanese woodblock print", "ukiyo e", "japanese print", "hokusai", "woodblock", "edo woodblock"),
    "cartoon": (
        "cartoon", "a cartoon", "comic cartoon with outlines", "cel shading", "anime style", "flat cartoon colours", "anime",
    ),
    "halftone": ("halftone comic", "comic halftone dots", "halftone print", "halftone dots", "comic book print", "halftone"),
    "engraving": (
        "engraving", "an engraving", "etching", "engraved with lines", "black and white engraving", "banknote engraving",
    ),
    "linocut": ("linocut", "linocut print", "woodcut", "lino print", "carved linoleum print", "block print"),
    "popart": ("pop art", "pop art poster", "screen print", "silkscreen", "warhol", "loud pop art"),
    "neon": ("neon outlines", "neon lines", "glowing neon", "neon light", "neon", "glowing outlines on black", "neon sign"),
    "vaporwave": ("vaporwave", "synthwave", "synthwave poster", "vaporwave poster", "retro synthwave", "outrun"),
    "relief": ("stone relief", "carved stone", "relief", "bas relief", "carved in stone", "stone carving", "stone"),
    "gold": ("gold statue", "cast in gold", "polished gold", "golden statue", "gold", "gold sculpture", "molten gold"),
    "mosaic": ("mosaic", "a mosaic", "mosaic of tiles", "tile mosaic", "roman mosaic", "ceramic tiles"),
    "embroidery": ("embroidery", "cross stitch", "embroidered", "stitched with thread", "needlework", "embroidery on linen"),
    "papercut": ("paper cut", "papercut", "layered paper", "paper collage", "cut out paper layers", "paper craft"),
    "pixel": ("pixel art", "pixels", "8 bit game", "pixelated", "retro game", "pixel blocks"),
    "night_vision": ("night vision", "night vision goggles", "green night vision", "night scope"),
    "terminal": ("text terminal", "terminal", "ascii art", "green terminal text", "matrix code", "ascii", "matrix"),
}  # fmt: skip

PALETTE_WORDS: dict[str, tuple[str, ...]] = {
    "warm": ("in warm colours", "warm colours", "warm tones", "in warm colors", "warm palette", "warm"),
    "cold": ("in cold colours", "cold colours", "cool tones", "in cool colors", "cold palette", "cold", "icy"),
    "pastel": ("pastel", "in pastel colours", "pastel colours", "pastel tones", "in pale colours", "soft pastel colors"),
    "vivid": ("in vivid colours", "vivid colours", "vibrant", "saturated colours", "colourful", "colorful", "vivid"),
    "grey": ("black and white", "in black and white", "monochrome", "grey", "in grey tones", "grayscale"),
    "blue_gold": ("blue and gold", "in blue and gold", "gold and blue", "blue and yellow", "navy and gold"),
    "red_black": ("red and black", "in red and black", "black and red", "red tones", "in red", "crimson"),
    "green": ("in green", "green", "green tones", "in green colours", "shades of green", "emerald"),
    "purple_orange": ("purple and orange", "in purple and orange", "orange and purple", "violet and orange"),
    "pink_teal": ("pink and teal", "in pink and teal", "teal and pink", "pink and turquoise", "turquoise and pink"),
}

LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "night": ("at night", "by night", "in the dark", "moonlight", "in moonlight", "at midnight", "moonlit"),
    "golden": ("golden hour", "at golden hour", "at sunset", "golden light", "evening sun", "sunset light", "sunlit"),
    "fog": ("foggy", "in fog", "in the mist", "misty", "fog", "hazy", "in haze"),
    "bright": ("bright", "bright light", "in bright light", "brightly lit", "high key", "airy light"),
    "backlight": ("backlit", "backlight", "against the light", "with backlight", "silhouette", "rim light"),
}

TEXTURE_WORDS: dict[str, tuple[str, ...]] = {
    "thick": ("thick outlines", "with thick outlines", "bold outlines", "thick lines", "bold lines", "heavy outlines"),
    "thin": ("thin lines", "with thin lines", "fine lines", "thin outlines", "delicate lines", "fine outlines"),
    "rough": ("rough paper", "on rough paper", "textured paper", "rough texture", "coarse paper"),
    "canvas": ("woven canvas", "on woven canvas", "canvas texture", "on linen canvas", "fabric texture"),
    "grain": ("grainy", "film grain", "with film grain", "grain", "with grain", "grainy texture"),
}

INTENSITY_WORDS: dict[float, tuple[str, ...]] = {
    SLIGHTLY: ("slightly {}", "a little {}", "subtle {}", "a hint of {}", "half {}", "{}, subtle", "faint {}"),
    VERY: ("very {}", "strong {}", "extremely {}", "intense {}", "{}, very strong", "strongly {}", "{}, extreme"),
}

SCENES: dict[str, tuple[str, ...]] = {
    "clouds": ("clouds", "a cloudy sky", "sky", "the sky", "blue sky with clouds"),
    "sea": ("sea", "the sea", "ocean", "the ocean", "waves of the sea", "open water"),
    "mountains": ("mountains", "a mountain", "mountain range", "alps", "mountain peaks"),
    "forest": ("forest", "a forest", "trees", "woods", "pine forest"),
    "desert": ("desert", "a desert", "sand dunes", "dunes", "sahara"),
    "river": ("river", "a river", "a winding river", "stream", "river valley"),
    "island": ("island", "an island", "tropical island", "islands in the sea", "a beach with palms"),
    "sunset": ("sunset", "a sunset", "sunrise", "sunset over the sea", "dawn"),
    "snow": ("snow", "snowfall", "winter", "snowy hills", "falling snow"),
    "field": ("field", "a field", "meadow", "a wheat field", "fields in summer"),
    "volcano": ("volcano", "a volcano", "lava", "erupting volcano"),
    "aurora": ("aurora", "an aurora", "northern lights", "polar lights"),
    "rain": ("rain", "rainy street", "falling rain", "rain on a window"),
    "lightning": ("lightning", "a thunderstorm", "thunder", "storm", "lightning bolt"),
    "fire": ("fire", "flames", "a fire", "burning flames", "campfire"),
    "city": ("city", "a city", "city lights", "skyline", "a city at night", "city skyline"),
    "planet": ("planet", "a planet", "planet with rings", "a planet in space", "saturn"),
    "galaxy": ("galaxy", "a galaxy", "nebula", "stars", "milky way", "spiral galaxy"),
    "moon": ("moon", "the moon", "full moon", "moon over the hills"),
    "flowers": ("flowers", "a flower", "roses", "petals", "sunflowers", "a bouquet"),
    "underwater": ("underwater", "under water", "coral reef", "fish", "deep sea", "reef"),
    "waves": ("wave pattern", "waves", "wavy lines", "a pattern of waves", "ripples"),
    "stripes": ("stripes", "a striped pattern", "striped", "coloured stripes", "bands"),
    "circles": ("circles", "a pattern of circles", "bubbles", "rings", "spots"),
    "marble": ("marble", "marble veins", "marbled", "marble texture", "agate"),
    "spiral": ("spiral", "a spiral", "vortex", "swirl", "swirling spiral"),
    "checks": ("checks", "chequered", "checkerboard", "squares", "a pattern of squares"),
}

TEMPLATES = (
    "{}", "{}", "{}", "{}", "a picture as {}", "{} style", "in the style of {}", "{} of a scene", "turn this into {}",
    "make it {}", "{}, high quality", "{}, detailed", "beautiful {}", "the scene as {}", "as {}",
)  # fmt: skip

# Words about the content of a picture, and fillers; none of them changes a look.
_SUBJECTS = """
person man woman child face portrait people hand eyes cat dog horse bird animal tree house tower bridge car bike boat
room table cup food fruit book robot castle street king queen hat guitar chair train ship lion bear dragon knight girl
boy
"""

# What people write into prompts everywhere, and what means nothing here.
_FILLERS = """
masterpiece amazing best cinematic artistic art artwork style render professional award winning trending elegant epic
stunning gorgeous intricate sharp focus perfect modern old new big small nice lovely cute funny happy sad calm wild
strange magic fantasy futuristic simple classic famous great good my your please draw show paint look
"""

SUBJECTS, FILLERS = tuple(_SUBJECTS.split()), tuple(_FILLERS.split())
_GLUE = "turn this into make it quality with and a an the of in on at by to from for as or not no so but more less much"


def vocabulary_words() -> list[str]:
    """Every word that must be one token, most important first, without duplicates."""
    tables: tuple[dict[str, tuple[str, ...]], ...] = (NAMES, PALETTE_WORDS, LIGHT_WORDS, TEXTURE_WORDS, SCENES)
    texts = [phrase for table in tables for phrases in table.values() for phrase in phrases]
    texts += [phrase for phrases in INTENSITY_WORDS.values() for phrase in phrases]
    texts += [*TEMPLATES, _GLUE, *SUBJECTS, *FILLERS]
    return list(dict.fromkeys(re.findall(r"[a-z0-9]+", " ".join(texts))))


FEATURED = ("oil", "pencil", "neon", "cartoon", "watercolour", "ukiyo_e", "linocut", "gold")
# Looks in the order of the page: the most striking first, the photograph last.
ORDER = (*FEATURED, *(look for look in NAMES if look not in FEATURED and look != "photo"), "photo")


def listing(looks: tuple[str, ...] = ORDER, modified: bool = True) -> dict[str, list[dict[str, str]]]:
    """The vocabulary of a model with these looks, for `looks.json`. modified: with modifiers and scenes."""

    def entry(name: str, prompt: str, group: str) -> dict[str, str]:
        return {"name": name, "title": prompt[0].upper() + prompt[1:], "prompt": prompt, "group": group}

    entries = {"looks": [entry(look, NAMES[look][0], GROUP_OF[look]) for look in looks]}
    if modified:
        tables = (("palette", PALETTE_WORDS), ("light", LIGHT_WORDS), ("texture", TEXTURE_WORDS))
        listed = [entry(name, phrases[0], group) for group, table in tables for name, phrases in table.items()]
        listed += [entry("slightly", "slightly", "intensity"), entry("very", "very", "intensity")]
        entries |= {"modifiers": listed, "scenes": [entry(name, phrases[0], "scene") for name, phrases in SCENES.items()]}
    return entries


def _pick(options: tuple[str, ...], rng: Generator) -> str:
    return options[int(torch.randint(0, len(options), (), generator=rng))]


def _chance(rng: Generator) -> float:
    return float(torch.rand((), generator=rng))


def _shuffled(parts: list[str], rng: Generator) -> list[str]:
    return [parts[k] for k in torch.randperm(len(parts), generator=rng).tolist()]


def _modifiers(request: Request, rng: Generator) -> list[str]:
    named = ((request.palette, PALETTE_WORDS), (request.light, LIGHT_WORDS), (request.texture, TEXTURE_WORDS))
    return [_pick(table[value], rng) for value, table in named if value is not None]


def _joined(parts: list[str], rng: Generator) -> str:
    return (", " if _chance(rng) < 0.7 else " ").join(parts)


def caption(request: Request, rng: Generator) -> str:
    """One prompt for a request: the look in a template, modifiers before or after it, sometimes words that change nothing.

    A photograph with modifiers goes half of the time without being called one ("at night"). At most 22 words, mostly below 10.
    """
    extra = _modifiers(request, rng)
    if request.look == "photo" and extra and _chance(rng) < 0.5:
        return _joined(_shuffled(extra, rng), rng)
    text = _called(request.look, rng)
    if request.intensity != PLAINLY:
        text = _pick(INTENSITY_WORDS[request.intensity], rng).format(text)
    elif _chance(rng) < (0.9 if not extra else 0.5):
        text = _pick(TEMPLATES, rng).format(text)
    text = _distracted(text, rng) if len(extra) < 2 else text
    order = [text, *_shuffled(extra, rng)]
    return _joined(order if _chance(rng) < 0.65 else _shuffled(order, rng), rng)


def _called(look: str, rng: Generator) -> str:
    """A look's first name half of the time, else any of its names: what is met most often is learnt first."""
    return NAMES[look][0] if _chance(rng) < 0.5 else _pick(NAMES[look], rng)


def _distracted(text: str, rng: Generator) -> str:
    """The text with a subject (a quarter), a filler or an unknown word (a tenth each), which change nothing."""
    chance = _chance(rng)
    if chance > 0.9:
        return f"{text}, {_pick(FILLERS, rng)}" if chance > 0.95 else f"{_pick(FILLERS, rng)} {text}"
    if chance < 0.25:
        return f"{text} of a {_pick(SUBJECTS, rng)}" if chance < 0.15 else f"{_pick(SUBJECTS, rng)}, {text}"
    if chance < 0.35:
        letters = torch.randint(0, 26, (int(torch.randint(3, 8, (), generator=rng)),), generator=rng).tolist()
        word = "".join(chr(97 + k) for k in letters)
        return f"{text} {word}" if chance < 0.3 else f"{word} {text}"
    return text


def scene_caption(subject: str, request: Request, rng: Generator, names: tuple[str, ...] = ()) -> str:
    """The prompt of a procedural scene drawn as `request`: the subject, mostly with the look's name unless it is a photograph.

    names: the subject's names, if they are not those of `SCENES`.
    """
    text = _pick(names or SCENES[subject], rng)
    extra = _modifiers(request, rng)
    if request.look != "photo" or _chance(rng) < 0.25:
        name = _called(request.look, rng)
        if request.intensity != PLAINLY:
            name = _pick(INTENSITY_WORDS[request.intensity], rng).format(name)
        text = f"{name} of {text}" if _chance(rng) < 0.4 else _joined(_shuffled([text, name], rng), rng)
    return _joined([text, *_shuffled(extra, rng)], rng)


def _phrases() -> list[tuple[str, str, str | float]]:
    """(phrase, field of a request, value), longest phrase first."""
    tables = (("look", NAMES), ("palette", PALETTE_WORDS), ("light", LIGHT_WORDS), ("texture", TEXTURE_WORDS))
    found: list[tuple[str, str, str | float]] = [
        (phrase, field, value) for field, table in tables for value, phrases in table.items() for phrase in phrases
    ]
    for value, phrases in INTENSITY_WORDS.items():
        found += [(word.format("").strip(", "), "intensity", value) for word in phrases]
    return sorted(found, key=lambda entry: -len(entry[0]))


_PHRASES = _phrases()


def parse(prompt: str) -> Request:
    """Reads a prompt by rules: the longest known phrases first, each word used once, the first of a kind wins.

    Unknown words are ignored; a prompt without a look is a photograph.
    """
    text = " " + " ".join(re.findall(r"\w+", prompt.lower().replace("_", " "))) + " "
    found: dict[str, tuple[int, str | float]] = {}
    for phrase, field, value in _PHRASES:
        while (at := text.find(f" {phrase} ")) >= 0:
            if field not in found or (at < found[field][0] and field != "look"):
                found[field] = (at, value)
            text = text[:at] + " " + "|" * len(phrase) + " " + text[at + len(phrase) + 2 :]
    values = {field: value for field, (_, value) in found.items()}
    return Request(**values)  # type: ignore[arg-type]
