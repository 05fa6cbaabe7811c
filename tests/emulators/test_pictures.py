"""The pictures and films that the emulators draw."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Literal, cast, get_args

import pytest
from PIL import Image, ImageChops, ImageStat

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import FetchFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = ("a mountain lake", "neon city", "a lighthouse at sea", "a cup of coffee", "abstract")
MASTERS = {0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0x1C53BB6B, 0xBB, 0xB7, 0x1F43B675}
DURATION, CODEC, WIDTH, HEIGHT, TIMESTAMP, BLOCK, CUE_CLUSTER = (
    0x4489, 0x86, 0xB0, 0xBA, 0xE7, 0xA3, 0xF1,
)  # fmt: skip


def apart(one: Image.Image, other: Image.Image, box: tuple[int, int, int, int]) -> float:
    """Return the mean difference of two pictures in a box (0 to 255)."""
    difference = ImageChops.difference(one.convert("RGB").crop(box), other.convert("RGB").crop(box))
    return max(ImageStat.Stat(difference).mean)


@pytest.mark.parametrize("ground", ["black", "white"])
@pytest.mark.parametrize("size", [(256, 256), (768, 1024)])
def test_the_stamp_is_legible_in_the_corner_on_dark_and_on_light(
    ground: str, size: tuple[int, int]
) -> None:
    plain = Image.new("RGB", size, ground)
    stamped = pictures.stamp(plain, "zsky")
    corner = stamped.convert("L").crop((size[0] // 2, size[1] - size[1] // 8, *size))
    low, high = cast("tuple[int, int]", corner.getextrema())
    assert (stamped.mode, stamped.size) == ("RGB", size)
    assert high - low > 100
    assert apart(stamped, plain, (0, 0, size[0], size[1] // 2)) == 0
    assert stamped.tobytes() != pictures.stamp(plain, "claid").tobytes()


@pytest.mark.parametrize("written", get_args(pictures.Format))
def test_every_format_can_be_read_again(written: pictures.Format) -> None:
    image = Image.new("RGBA", (40, 30), (200, 10, 10, 255))
    data = pictures.encode(image, written)
    with Image.open(io.BytesIO(data)) as read:
        assert (read.format or "").lower() == written
    red, green, _ = cast("tuple[int, ...]", pictures.decode(data).getpixel((20, 15)))[:3]
    assert red > 150 > green


def test_jpeg_lays_what_is_transparent_on_white() -> None:
    data = pictures.encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "jpeg")
    assert pictures.decode(data).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_a_failed_fetch(data: bytes) -> None:
    with pytest.raises(FetchFailedError):
        pictures.decode(data)


def test_a_picture_that_breaks_off_is_a_failed_fetch() -> None:
    whole = pictures.encode(pictures.product(1), "png")
    with pytest.raises(FetchFailedError):
        pictures.decode(whole[: len(whole) // 2])


def test_a_stand_in_is_what_the_words_of_the_address_say() -> None:
    garment, model, scene = (
        pictures.stand_in(f"https://shop.example/{name}.jpg")
        for name in ("blue-shirt", "model", "thing")
    )
    assert garment == pictures.stand_in("https://shop.example/blue-shirt.jpg")
    assert pictures.decode(garment).size == pictures.decode(model).size == (768, 1024)
    assert pictures.decode(scene).size == (1024, 768)


@pytest.mark.parametrize("kind", ["tee", "hoodie", "dress"])
def test_a_tryon_dresses_the_torso_and_leaves_face_and_ground_alone(
    kind: Literal["tee", "hoodie", "dress"],
) -> None:
    for seed in range(3):
        model, garment = pictures.person(seed), pictures.garment(seed, kind)
        worn = pictures.compose_tryon(
            pictures.encode(model, "png"), pictures.encode(garment, "png")
        )
        assert worn.size == model.size
        assert apart(worn, model, (330, 120, 440, 300)) == 0, "the face"
        assert apart(worn, model, (0, 0, 120, 1024)) == 0, "the wall"
        chest, cloth = worn.crop((320, 470, 450, 560)), garment.crop((320, 500, 450, 560))
        shades = [ImageStat.Stat(each.convert("RGB")).mean for each in (chest, cloth)]
        assert max(abs(a - b) for a, b in zip(*shades, strict=True)) < 45, "the garment's colour"
        assert apart(worn, model, (320, 470, 450, 560)) > 20, "the shirt below is gone"


def test_a_tryon_works_on_any_two_pictures() -> None:
    noise = Image.effect_noise((90, 70), 80).convert("RGB")
    wide = Image.new("RGB", (700, 20), "red")
    cut = pictures.garment(1).convert("RGBA")
    cut.putalpha(0)
    cut.paste((255, 0, 0, 255), (200, 200, 500, 700))
    models = (noise, wide, pictures.person(1), Image.new("L", (1, 1)))
    for model in models:
        for garment in (*models, cut):
            data = pictures.encode(model, "png"), pictures.encode(garment, "png")
            assert pictures.compose_tryon(*data).size == model.size


def test_scenes_depend_on_prompt_seed_and_negative_and_on_nothing_else() -> None:
    def drawn(prompt: str, seed: int | None, negative: str = "") -> bytes:
        return pictures.scene(prompt, seed, 128, 96, negative).tobytes()

    assert drawn("a lake", 1) == drawn("a lake", 1)
    different = {drawn("a lake", 1), drawn("a lake", 2), drawn("a lake", None), drawn("a sea", 1), drawn("a lake", 1, "sun")}  # fmt: skip
    assert len(different) == 5


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("size", [(256, 256), (256, 2048), (2048, 256)])
def test_scenes_have_any_size_and_are_not_empty(prompt: str, size: tuple[int, int]) -> None:
    image = pictures.scene(prompt, 3, *size)
    assert (image.mode, image.size) == ("RGB", size)
    assert max(ImageStat.Stat(image).stddev) > 12


def elements(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Walk an EBML file: id, position and body of every element that holds no others."""
    while start < end:
        length = 9 - data[start].bit_length()
        identifier = int.from_bytes(data[start : start + length], "big")
        at = start + length
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        body = at + width
        yield identifier, start, data[body : body + size]
        if identifier in MASTERS:
            yield from elements(data, body, body + size)
        start = body + size
    assert start == end


@pytest.mark.parametrize(("frames", "shown"), [(1, 1), (24, 12), (121, 61)])
def test_a_film_is_webm_of_key_frames_with_the_asked_length(frames: int, shown: int) -> None:
    data = pictures.video("a lighthouse at sea", 1, frames, provider="zsky", width=160, height=90)
    found = list(elements(data, 0, len(data)))

    def bodies(identifier: int) -> list[bytes]:
        return [body for each, _, body in found if each == identifier]

    assert struct.unpack(">d", bodies(DURATION)[0]) == (pytest.approx(frames / 24 * 1000),)
    assert bodies(CODEC) == [b"V_VP8"]
    assert [int.from_bytes(bodies(each)[0], "big") for each in (WIDTH, HEIGHT)] == [160, 90]
    blocks = bodies(BLOCK)
    assert len(blocks) == shown
    for block in blocks:
        frame = block[4:]
        assert frame[0] & 1 == 0, "a key frame"
        assert frame[3:6] == b"\x9d\x01\x2a", "the start code of VP8"
        assert struct.unpack("<HH", frame[6:10]) == (160, 90)
    segment = next(position for each, position, _ in found if each == 0x18538067) + 12
    clusters = [position - segment for each, position, _ in found if each == 0x1F43B675]
    assert [int.from_bytes(body, "big") for body in bodies(CUE_CLUSTER)] == clusters
    times = [int.from_bytes(body, "big") for body in bodies(TIMESTAMP)]
    assert times == sorted(times)
    assert times[0] == 0


def test_the_pictures_of_a_film_move_and_are_stamped() -> None:
    still = pictures.video("a city", 1, 2, provider="zsky", width=160, height=90)
    moving = pictures.video("a city", 1, 48, provider="zsky", width=160, height=90)
    assert moving == pictures.video("a city", 1, 48, provider="zsky", width=160, height=90)
    blocks = [body[4:] for each, _, body in elements(moving, 0, len(moving)) if each == BLOCK]
    assert len(set(blocks)) == len(blocks)
    assert still != pictures.video("a city", 1, 2, provider="claid", width=160, height=90)
