from __future__ import annotations

from pathlib import Path

import pytest

from cvmask.errors import ModelError
from cvmask.models.labels import read_label_map


def test_label_map_is_read_in_the_order_of_ids_with_gaps(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(
        """item { name: "/m/01" id: 3 display_name: "dog # big" }  # the dog
           item {
             id: 1
             name: 'cat'
           }"""
    )
    assert read_label_map(path) == ["cat", "class 1", "dog # big"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item { id: 0 name: 'background' }", "id from 1 to 100000"),
        ("item { id: 'one' name: 'a' }", "id from 1 to 100000"),
        ("item { id: 1500000000 name: 'a' }", "id from 1 to 100000"),
        (f"item {{ id: {'9' * 5000} name: 'a' }}", "id from 1 to 100000 and a name, got 'id: 9{76}'"),
        ("item { id: 1 }", "and a name"),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "two items have the id 1"),
        ("nothing", "found none"),
    ],
)
def test_label_map_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_label_map(path)
