"""TFRecord files: checksums as the standard has them, Examples as protobuf writes them, RLDS and BAIR in them."""

import io
import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image

from experiments.data.converters.example import Example
from experiments.data.converters.tfrecord import find_records, masked_crc, read_record
from experiments.data.recording import DataError


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_checksums_are_those_of_the_standard_rotated_and_shifted(data, checksum):
    rotated = (masked_crc(data) - 0xA282EAD8) % 2**32
    assert (rotated << 15 | rotated >> 17) % 2**32 == checksum


def _example_class():
    """tf.train.Example, built by protobuf from its definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if isinstance(kind, str):
                made.field.add(name=field, number=number, label=label, type=kinds.TYPE_MESSAGE, type_name=kind)
            else:
                made.field.add(name=field, number=number, label=label, type=kind)
        return made

    message("BytesList", ("value", kinds.TYPE_BYTES, True))
    message("FloatList", ("value", kinds.TYPE_FLOAT, True))
    message("Int64List", ("value", kinds.TYPE_INT64, True))
    lists = [("bytes_list", ".tf.BytesList"), ("float_list", ".tf.FloatList"), ("int64_list", ".tf.Int64List")]
    feature = message("Feature", *((name, kind, False) for name, kind in lists))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", ".tf.Features.FeatureEntry", True))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=1, type=kinds.TYPE_MESSAGE, type_name=".tf.Feature")
    message("Example", ("features", ".tf.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


EXAMPLE = _example_class()


def example(features: dict) -> bytes:
    made = EXAMPLE()
    for name, values in features.items():
        feature = made.features.feature[name]
        if isinstance(values, list) and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif np.asarray(values).dtype.kind == "f":
            feature.float_list.value.extend(np.ravel(values).tolist())
        else:
            feature.int64_list.value.extend(np.ravel(values).tolist())
    return made.SerializeToString()


def tfrecord(records: list[bytes]) -> bytes:
    parts = []
    for record in records:
        length = struct.pack("<Q", len(record))
        parts += [length, struct.pack("<I", masked_crc(length)), record, struct.pack("<I", masked_crc(record))]
    return b"".join(parts)


def test_an_example_reads_as_protobuf_wrote_it():
    numbers = np.array([0, 1, -1, 2**40, -(2**62)])
    features = {"a": [b"x", b"", b"\x00\xff"], "b/c": np.float32([1.5, -2, 0]), "d": numbers, "ünicode": [b"y"]}
    made = Example(example(features))
    assert set(made) == set(features)
    assert made["a"] == features["a"] and made["ünicode"] == [b"y"]
    np.testing.assert_array_equal(made["b/c"], features["b/c"])
    np.testing.assert_array_equal(made["d"], numbers)


def test_numbers_that_are_not_packed_read_the_same():
    floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.5, -2))
    integers = b"\x08\x05\x08\x96\x01"
    entries = [(b"f", b"\x12" + bytes([len(floats)]) + floats), (b"i", b"\x1a" + bytes([len(integers)]) + integers)]
    made = b""
    for name, feature in entries:
        entry = b"\x0a\x01" + name + b"\x12" + bytes([len(feature)]) + feature
        made += b"\x0a" + bytes([len(entry)]) + entry
    read_back = Example(b"\x0a" + bytes([len(made)]) + made)
    np.testing.assert_array_equal(read_back["f"], np.float32([1.5, -2]))
    np.testing.assert_array_equal(read_back["i"], [5, 150])


def test_every_cut_of_an_example_is_refused_or_reads_as_less():
    whole = example({"a": [b"x" * 20], "b": np.float32([1, 2])})
    for end in range(1, len(whole)):
        with pytest.raises(DataError, match=r"no tf\.train\.Example"):
            Example(whole[:end])


def test_a_number_that_does_not_end_is_refused_at_its_eleventh_byte():
    """Fault 15: two megabytes of it took more than forty seconds."""
    for prefix in (b"", b"\x0a", b"\x08"):  # a tag, a length, a value
        with pytest.raises(DataError, match="a number of more than 10 bytes"):
            Example(prefix + b"\x80" * 100_000)
    entry = b"\x0a\x01i\x12\x0f\x1a\x0d\x0a\x0b" + b"\x80" * 11
    made = Example(b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry)
    with pytest.raises(ValueError, match="a number of more than 10 bytes"):
        made["i"]


def test_a_number_where_bytes_belong_is_refused():
    """Fault 15: as many zeros were made as it said."""
    entry = b"\x0a\x01b\x12\x08\x0a\x06\x08\xff\xff\xff\xff\x7f"
    made = Example(b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry)
    with pytest.raises(ValueError, match="a number where bytes belong"):
        made["b"]


def test_every_flipped_bit_of_a_file_is_found(tmp_path):
    path, records = tmp_path / "a.tfrecord", [b"first record", b"second"]
    whole = tfrecord(records)
    path.write_bytes(whole)
    assert [read_record(path, span) for span in find_records(path)] == records
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"checksum|ends within"):
            [read_record(path, span) for span in find_records(path)]


def png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def steps(frames: np.ndarray, image: str = "image", **actions) -> bytes:
    keys = {f"steps/action{'/' + key if key else ''}": values for key, values in actions.items()}
    return example({f"steps/observation/{image}": [png(frame) for frame in frames], "steps/is_first": [1], **keys})


def test_episodes_of_a_set_of_the_mixture_are_read_with_its_own_keys(converted, grey, tmp_path):
    folder = tmp_path / "viola" / "0.1.0"
    folder.mkdir(parents=True)
    frames, t = grey(range(4)), np.arange(4, dtype=np.float32)
    rotation, translation = np.repeat(t[:, None], 3, 1), np.repeat(-t[:, None], 3, 1)
    record = steps(
        frames, "agentview_rgb",
        gripper_closedness_action=t, rotation_delta=rotation, terminate_episode=t, world_vector=translation,
    )  # fmt: skip
    (folder / "viola-train.tfrecord-00000-of-00002").write_bytes(tfrecord([record] * 2))
    (folder / "viola-train.tfrecord-00001-of-00002").write_bytes(tfrecord([record]))
    for source in (folder, folder.parent):
        store = converted("rlds", source)
        assert len(store) == 3
        np.testing.assert_array_equal(store.read(2).frames, frames)
        np.testing.assert_array_equal(store.read(2).actions, np.concatenate([translation, rotation, t[:, None]], 1))
    assert store.names[0] == "viola-train.tfrecord-00000-of-00002/00000"


def test_any_other_set_is_read_with_all_of_its_action_or_the_keys_that_are_chosen(converted, grey, tmp_path):
    actions = np.arange(8, dtype=np.float32).reshape(4, 2)
    made = example({"steps/observation/image": [png(frame) for frame in grey(range(4))], "steps/action": actions})
    (tmp_path / "own.tfrecord").write_bytes(tfrecord([made]))
    np.testing.assert_array_equal(converted("rlds", tmp_path).read(0).actions, actions)
    record = steps(grey(range(4)), a=actions, b=np.arange(4), c=[b"text"] * 4)
    (tmp_path / "own.tfrecord").write_bytes(tfrecord([record]))
    np.testing.assert_array_equal(converted("rlds", tmp_path).read(0).actions[1], [2, 3, 1])
    chosen = converted("rlds", tmp_path, action_keys=("b",))
    np.testing.assert_array_equal(chosen.read(0).actions, [[0], [1], [2], [3]])


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_a_reward_is_that_of_arriving_at_the_frame_after(converted, grey, tmp_path, kind):
    features = {"steps/observation/image": [png(frame) for frame in grey(range(4))]}
    made = example(features | {"steps/reward": np.array([1, 2, 3, 9], kind)})
    short = example(features | {"steps/reward": np.array([1, 2, 3], kind)})
    double = example(features | {"steps/reward": np.arange(8).astype(kind)})
    (tmp_path / "own.tfrecord").write_bytes(tfrecord([made, short, double]))
    store = converted("rlds", tmp_path)
    assert store.read(0).rewards.tolist() == [0, 1, 2, 3]
    assert [reason for _, reason in store.skipped] == [
        "'steps/reward' has 3 values, which 4 steps cannot share",
        "'steps/reward' has 2 values a step, expected one",
    ]


def test_what_is_broken_in_a_file_is_skipped_and_named_and_the_rest_is_read(converted, grey, tmp_path):
    record = steps(grey(range(3)))
    whole = tfrecord([record, record, b"no example", steps(grey(range(3)), "other"), record])
    damaged = bytearray(whole)
    damaged[len(record) + 16 + 50] ^= 1
    (tmp_path / "a.tfrecord").write_bytes(damaged)
    (tmp_path / "b.tfrecord").write_bytes(whole[: len(record) + 100])
    store = converted("rlds", tmp_path)
    assert store.names == ["a.tfrecord/00000", "a.tfrecord/00004", "b.tfrecord/00000"]
    reasons = dict(store.skipped)
    assert "does not match its checksum" in reasons["a.tfrecord/00001"]
    assert "no tf.train.Example" in reasons["a.tfrecord/00002"]
    assert "no image 'image' among other" in reasons["a.tfrecord/00003"]
    assert "the file ends within this record" in reasons["b.tfrecord/00001"]


def test_several_versions_in_a_folder_are_refused(converted, tmp_path):
    for version in ("0.1.0", "1.0.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.tfrecord").write_bytes(b"")
    with pytest.raises(DataError, match="several folders: choose one of"):
        converted("rlds", tmp_path)


def test_bair_is_read_from_its_original_files_in_the_order_of_their_numbers(converted, tmp_path):
    rng = np.random.default_rng(0)

    def episode(number: int) -> bytes:
        features = {}
        for step in range(3):
            pixels = np.full((64, 64, 3), 10 * number + step, np.uint8)
            features[f"{step}/image_aux1/encoded"] = [pixels.tobytes()]
            features[f"{step}/image_main/encoded"] = [rng.bytes(64 * 64 * 3)]
            features[f"{step}/action"] = np.float32([number, step, 0, 0])
        return example(features)

    (tmp_path / "traj_256_to_511.tfrecords").write_bytes(tfrecord([episode(2)]))
    (tmp_path / "traj_0_to_255.tfrecords").write_bytes(tfrecord([episode(0), episode(1)]))
    store = converted("bair", tmp_path)
    assert len(store) == 3
    for number in range(3):
        recording = store.read(number)
        assert recording.frames[:, 0, 0, 0].tolist() == [10 * number, 10 * number + 1, 10 * number + 2]
        np.testing.assert_array_equal(recording.actions[:, :2], [[number, 0], [number, 1], [number, 2]])
