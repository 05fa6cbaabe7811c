"""A credential that an answer repeats is taken out, however it is spelled there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.core.errors import clean
from darkroom.core.foreign import handed_on
from darkroom.providers.messages import MOST_VALUES, read_body

KEY = "sk-live/Ab+12_z"


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(each):04x}" for each in text)


BODIES = {
    "plain": json.dumps({"error": f"key {KEY} is wrong"}).encode(),
    "solidus": json.dumps({"error": KEY}).replace("/", "\\/").encode(),
    "plus": json.dumps({"error": KEY}).replace("+", "\\u002B").encode(),
    "all-escaped": f'{{"error": "{escaped(KEY)}"}}'.encode(),
    "utf-16": json.dumps({"error": KEY}).encode("utf-16"),
    "utf-16-text": f"no JSON: {KEY}".encode("utf-16-le"),
    "utf-32": json.dumps({"error": KEY}).encode("utf-32"),
    "name": json.dumps({"seen": [{KEY: 1}]}).encode(),
    "escaped-name": f'{{"{escaped(KEY)}": 1}}'.encode(),
    "broken-json": f'{{"error": "{escaped(KEY)}'.encode(),
    "twice-escaped": json.dumps(json.dumps({"error": KEY}).replace("/", "\\/")).encode(),
    "percent": json.dumps({"u": f"?k={KEY.replace('/', '%2F').replace('+', '%2b')}"}).encode(),
    "zero-width": json.dumps({"error": "\u200b".join(KEY)}).encode(),
    "control": json.dumps({"error": "\0".join(KEY)}).encode(),
    "text": f"<p>{KEY}</p>".encode(),
}


@pytest.mark.parametrize("spelled", BODIES)
def test_a_key_is_taken_out_after_decoding(spelled: str) -> None:
    said = read_body(BODIES[spelled], KEY)
    shown = said if isinstance(said, str) else json.dumps(handed_on({"said": said}))
    for text in (shown, clean(shown), clean(str(said))):
        assert KEY not in text
        assert KEY.replace("/", "\\/") not in text
        assert "[credential]" in text


@pytest.mark.parametrize("said", [{"a": "sk-live"}, {"b": ["Ab+12_z"]}, {"c\\u0041": "%2F"}])
def test_what_is_no_key_stays(said: object) -> None:
    assert read_body(json.dumps(said).encode(), KEY) == said


@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40))
def test_any_key_goes_from_any_place(key: str) -> None:
    said = {key: [key, f"x{key}y"], "z": {"deep": key}}
    for body in (json.dumps(said), f'{{"a": "{escaped(key)}", "{escaped(key)}": 2}}'):
        assert key not in str(read_body(body.encode(), key))


def test_an_answer_of_too_many_values_is_not_read() -> None:
    body = b"[" + b"[]," * 1_300_000 + b"[]]"
    assert isinstance(read_body(body), str)


@pytest.mark.parametrize("rows", [1_000, 70_000])
def test_a_long_list_is_read(rows: int) -> None:
    body = json.dumps([{"iid": "https://a.example/1", "name": "1"}] * rows).encode()
    assert sum(map(body.count, (b"[", b"{", b","))) < MOST_VALUES
    assert isinstance(read_body(body), list)
