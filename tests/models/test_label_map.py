from __future__ import annotations

from pathlib import Path

import pytest

from cvmask.errors import ModelError
from cvmask.graph.model_files import ModelFiles, model_files
from cvmask.models.labels import names_file, read_label_map, read_names, unnamed_note
from cvmask.system import folders


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
        ("item { id: 0 name: 'background' }", "found none"),
        ("item { id: 0 name: 'cat' }", "line 1: each item needs an id from 1 to 100000"),
        ("item { name: 'cat' }", "id from 1 to 100000"),
        ("item { id: -1 name: 'cat' }", "id from 1 to 100000"),
        ("item { id: 1 id: 2 name: 'cat' }", "an item needs one id"),
        ("item { id: 1 name: '' }", "and a name"),
        ("item { id: 1 name: 'cat' ", "line 1: expected a field name or '}'"),
        ("item { id: 1 name: 'a\\377' }", "line 1: a name must be UTF-8, got byte 0xff"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'b\\' }", "line 2: not protobuf's text form"),
        ("item { id: 'one' name: 'a' }", "id from 1 to 100000"),
        ("item { id: 1500000000 name: 'a' }", "id from 1 to 100000"),
        (f"item {{ id: {'9' * 5000} name: 'a' }}", "id from 1 to 100000 and a name, got 'id: 9{76}"),
        ("item { id: 1 }", "and a name"),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "two items have the id 1"),
        ("nothing", "line 1: expected ':' or"),
        ("classes: 3", "line 1: a label map needs items"),
    ],
)
def test_label_map_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_label_map(path)


WANTED = ["café", 'a } "b"', "it's # no comment", "class 3", "猫"]


def test_label_map_is_read_as_protobuf_text(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    text = r"""# made by hand: item { id: 9 name: 'none' }
        item: { id: 0, name: "background" }
        item: { name: "/m/1"; id: 1; display_name: "caf\303\251" keypoints { id: 7 name: "nose" label: 'x' } }
        item < id: 2 name: 'a } \x22b\"' >
        item [ { id: 3 name: "it's " "# no comment" ancestor_ids: [1, 2] frequency: COMMON },
               { id: 0x5 name: '猫' display_name: "" } ]
    """
    path.write_text(text, encoding="utf-8-sig")
    assert read_label_map(path) == WANTED
    assert read_names(path, 7) == [*WANTED, "class 5", "class 6"]


def test_label_map_of_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_bytes("item { id: 1 name: 'caf\u00e9' }".encode("latin-1"))
    with pytest.raises(ModelError, match=r"map\.pbtxt: must be UTF-8 text, got byte 0xe9$"):
        read_names(path)


def test_pbtxt_that_is_no_label_map_is_not_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    for text in ("node { name: 'a' op: 'B' }", "model { faster_rcnn { } }", "cat\ndog\n"):
        path.write_text(text)
        with pytest.raises(ModelError, match=r"map\.pbtxt: "):
            read_names(path)


LABEL_MAP = "item { id: 1 name: 'cat' }"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "frozen_inference_graph.pb").write_bytes(b"\x0a\x02\x01\x02")
    (folder / "pipeline.config").write_text("model { }")
    (folder / "graph.pbtxt").write_text("node { name: 'a' op: 'B' }")
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.names", "cat"),
        ("label_map.pbtxt", LABEL_MAP),
        ("labels.txt", "cat"),
        ("classes.txt", "cat"),
        ("object-detection.pbtxt", f"# of 2019\n{LABEL_MAP}"),
        ("frozen_inference_graph.pbtxt", LABEL_MAP),
        ("animals.names", "cat"),
    ],
)
def test_the_names_beside_a_model_are_found(model: Path, name: str, text: str) -> None:
    (model / name).write_text(text)
    files = model_files(model)
    assert (files.labels, files.text, files.notes) == (model / name, model / "graph.pbtxt", ())
    assert names_file(files, 90) == model / name


def test_of_several_files_of_names_none_is_taken_and_a_note_says_so(model: Path) -> None:
    for name in ("a.pbtxt", "b.pbtxt"):
        (model / name).write_text(LABEL_MAP)
    files = model_files(model)
    assert files.labels is None
    assert files.notes == ("several files of class names: none is used; give one of a.pbtxt, b.pbtxt as labels",)
    (model / "classes.txt").write_text("cat")  # a usual name goes before
    assert model_files(model).labels == model / "classes.txt"


def test_names_of_coco_go_to_models_of_coco_only(model: Path) -> None:
    files = model_files(model)
    assert names_file(files, 90) is None
    assert "if it was trained on COCO, give " in unnamed_note(files, 90)
    assert unnamed_note(files, 8) == ""
    coco = folders.path("mscoco_labels.names")
    (model / "pipeline.config").write_text('eval_input_reader { label_map_path: "PATH/mscoco_label_map.pbtxt" }')
    assert names_file(files, 90) == coco
    assert names_file(files, 89) is None
    for name in ("coco", "coco-resnet50", "mask_rcnn_inception_v2_coco_2018_01_28"):
        assert names_file(ModelFiles(Path("models", name, "frozen_inference_graph.pb")), 90) == coco
    for name in ("shapes-90", "not_coco", "mine"):
        assert names_file(ModelFiles(Path("models", name, "frozen_inference_graph.pb")), 90) is None
