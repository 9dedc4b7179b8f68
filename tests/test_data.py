import re
import unicodedata
import warnings

import numpy as np
import pytest
import torch

from fl_gan_lib.data import ImageDataset, from_uint8, load_dataset, to_uint8


def images(number: int = 4, side: int = 28) -> torch.Tensor:
    return torch.linspace(-1, 1, number * side * side).reshape(number, 1, side, side)


LABELS = torch.tensor([0, 1, 2, 1])


def test_grey_values_survive_the_way_to_floats_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    floats = from_uint8(pixels)
    assert floats.shape == (5, 1, 28, 28) and floats.dtype == torch.float32
    assert floats.min() >= -1 and floats.max() <= 1
    np.testing.assert_array_equal(to_uint8(floats), pixels)


def test_a_data_set_knows_its_classes_and_its_side():
    named = ImageDataset(images(side=16), LABELS, ("cat", "dog", "house"))
    assert (named.side, named.classes, len(named)) == (16, ("cat", "dog", "house"), 4)
    assert ImageDataset(images(), LABELS).classes == ("0", "1", "2")
    assert named.subset([0]).classes == named.to(torch.device("cpu")).classes == named.classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": images().squeeze(1)}, r"shape \(4, 28, 28\): .*images.unsqueeze\(1\)"),
        ({"images": images().expand(-1, 3, -1, -1)}, r"images.mean\(1, keepdim=True\)"),
        ({"images": images()[..., :20]}, r"shape \(4, 1, 28, 20\)"),
        ({"images": images(side=30)}, "multiple of 4 from 16 to 64.*interpolate"),
        ({"images": images(side=12)}, "multiple of 4 from 16 to 64"),
        ({"images": images(side=68)}, "multiple of 4 from 16 to 64"),
        ({"images": images().double()}, r"torch.float64: .*images.float\(\)"),
        ({"images": (images() * 127 + 127).byte()}, r"torch.uint8: .*from_uint8\(images\)"),
        ({"images": images().numpy()}, "type ndarray: give a tensor"),
        ({"images": images() * 127.5 + 127.5}, r"values from 0 to 255: .*images / 127.5 - 1"),
        ({"images": images() * 2.8}, r"values from -2.8 to 2.8: they must be in \[-1, 1\]"),
        ({"images": torch.full((4, 1, 28, 28), torch.nan)}, "values from nan to nan"),
        ({"labels": LABELS[:3]}, "4 images and 3 labels"),
        ({"labels": LABELS.float()}, r"torch.float32 of shape \(4,\): .*long\(\)"),
        ({"labels": torch.eye(4, dtype=torch.long)}, r"labels.argmax\(1\)"),
        ({"labels": LABELS.numpy()}, "labels are ndarray"),
        ({"labels": LABELS - 1}, "a label -1"),
        ({"classes": ("cat", "dog")}, "a label 2 and a name for 2 classes"),
        ({"classes": ("cat", "cat", "dog")}, "two classes are called 'cat'"),
        ({"classes": ("cat", "dog", "")}, "a class is called ''"),
        ({"classes": ("cat", "dog", "a/b")}, "a class is called 'a/b'"),
        ({"classes": ("cat", "dog", 3)}, "a class is called 3"),
        ({"classes": "cat"}, "classes is 'cat': give a tuple"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_way_to_make_it_one(change, message):
    with pytest.raises(ValueError, match=message):
        ImageDataset(**({"images": images(), "labels": LABELS} | change))


def test_images_from_0_to_1_are_taken_with_a_warning_and_single_bright_images_without():
    with pytest.warns(UserWarning, match=r"\[-1, 1\].*images \* 2 - 1"):
        dataset = ImageDataset((images() + 1) / 2, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageDataset(images(), LABELS).subset([3])
        ImageDataset(torch.zeros(4, 1, 28, 28), LABELS)
    assert len(dataset) == 4


def test_a_mask_is_no_list_of_indices():
    dataset = ImageDataset(images(), LABELS)
    for mask in (LABELS == 1, (LABELS == 1).numpy(), [False, True, False, True]):
        assert dataset.subset(mask).labels.tolist() == [1, 1]
        assert torch.equal(dataset.subset(mask).images, dataset.images[[1, 3]])
    with pytest.raises(ValueError, match="mask is for 3 images, and there are 4"):
        dataset.subset(LABELS[:3] == 1)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([4], "from 4 to 4: they must be from 0 to 3"),
        ([-1], "from -1 to -1"),
        ([0.5], r"torch.float64 of shape \(1,\)"),
        ([[0]], r"of shape \(1, 1\)"),
        (2, r"of shape \(\)"),
    ],
)
def test_indices_that_are_none_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        ImageDataset(images(), LABELS).subset(indices)


@pytest.mark.parametrize("indices", [[], np.array([], int), torch.tensor([], dtype=torch.long), np.zeros(4, bool)])
def test_no_images_are_an_empty_data_set(indices):
    assert len(ImageDataset(images(), LABELS).subset(indices)) == 0


def test_what_is_handed_out_is_a_copy():
    dataset = ImageDataset(images(), LABELS.clone())
    part, of_one = dataset.subset([0, 1]), dataset.images_of(1)
    part.images.zero_(), part.labels.zero_(), of_one.zero_()
    assert dataset == ImageDataset(images(), LABELS)
    train, test = load_dataset()
    train.images.zero_(), train.labels.zero_(), test.images.zero_()
    fresh, fresh_test = load_dataset()
    assert fresh.labels.sum() == 45 * 400 and fresh.images.min() == fresh_test.images.min() == -1


def test_equal_data_sets_are_equal():
    dataset = ImageDataset(images(), LABELS)
    assert dataset == ImageDataset(images(), LABELS) and dataset != ImageDataset(images(), LABELS, ("a", "b", "c"))
    assert dataset != ImageDataset(images().flip(0), LABELS) and dataset != dataset.subset([0]) and dataset != 3


def test_a_class_is_found_by_its_name_or_else_its_number():
    dataset = ImageDataset(images(), LABELS, ("2", "Käfer", "7"))
    assert [dataset.label_of(target) for target in ("2", 2, 1, "Käfer", 7, "7", np.int64(0))] == [0, 0, 1, 1, 2, 2, 0]
    assert dataset.label_of(unicodedata.normalize("NFD", "Käfer")) == 1
    assert len(dataset.images_of("Käfer")) == 2
    for target in (3, -1, "hose", 1.0, True, None):
        with pytest.raises(ValueError, match=f"target is {re.escape(repr(target))}"):
            dataset.label_of(target)


def test_a_fifth_of_each_class_is_held_out():
    labels = torch.arange(3).repeat_interleave(torch.tensor([10, 5, 2]))
    dataset = ImageDataset(images(17), labels, ("a", "b", "c"))
    train, test = dataset.split()
    assert np.bincount(train.labels).tolist() == [8, 4, 1] and np.bincount(test.labels).tolist() == [2, 1, 1]
    together = torch.cat([train.images, test.images]).flatten(1)[:, 0].sort().values
    assert torch.equal(together, dataset.images.flatten(1)[:, 0])
    assert (train, test) == dataset.split(seed=0) and train != dataset.split(seed=1)[0]
    with pytest.raises(ValueError, match="class 'c' has 1 images"):
        dataset.subset(range(16)).split()
    for share in (0, -0.5, "a", None, 2):
        with pytest.raises(ValueError, match="test_share is"):
            dataset.split(share)
