import numpy as np
import pytest

from hardtune.errors import InputError
from hardtune.evaluation.corruptions import CHUNK_VALUES, CORRUPTIONS, SEVERITIES, corrupt
from hardtune.evaluation.corruptions.geometry import zoomed

KINDS = [
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
]  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def photographs(n=24, size=32):
    """Smooth coloured images with an edge: something that blur, noise and contrast can all spoil."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    phase = rng.uniform(0, 6, (n, 1, 1, 3))
    waves = 0.5 + 0.25 * np.sin(6 * x[..., None] + phase) + 0.15 * np.cos(9 * y[..., None] + phase)
    waves[:, size // 3 : size // 2, size // 4 : size // 2] *= 0.3
    return np.clip(waves * 255, 0, 255).astype(np.uint8)


def test_the_kinds_are_those_of_cifar10_c():
    assert set(CORRUPTIONS) == set(KINDS)


@every_kind
@pytest.mark.parametrize(
    "shape", [(3, 32, 32, 3), (2, 28, 28, 1), (2, 8, 8, 1), (2, 20, 33, 3), (1, 64, 64, 3), (1, 2, 2, 2)]
)
def test_any_size_and_channels_keep_shape_and_type(kind, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for severity in SEVERITIES:
        result = corrupt(images, kind, severity)
        assert result.shape == shape
        assert result.dtype == np.uint8


@every_kind
def test_every_kind_changes_images_more_at_severity_5_than_at_1(kind):
    images = photographs()
    change = [np.abs(corrupt(images, kind, s).astype(float) - images).mean() for s in SEVERITIES]
    assert change[0] > 0.2
    if kind != "elastic_transform":  # the original's first severities are the strongest affine maps
        assert change[4] > 1.15 * change[0]


# Mean absolute change in grey values of the photographs, at severities 1 to 5. Figures under corruptions are stored:
# who changes these raises CORRUPTION_VERSION in hardtune.answers.
CHANGES = {
    "gaussian_noise": (8.12, 12.17, 16.17, 18.24, 20.10),
    "shot_noise": (6.14, 8.62, 13.71, 15.79, 19.08),
    "impulse_noise": (1.23, 2.61, 3.81, 6.45, 8.82),
    "defocus_blur": (0.27, 0.81, 1.35, 1.70, 2.75),
    "glass_blur": (6.76, 6.81, 6.65, 12.41, 12.18),
    "motion_blur": (4.61, 7.58, 10.43, 10.49, 12.87),
    "zoom_blur": (5.18, 5.69, 7.05, 8.38, 10.00),
    "snow": (11.66, 25.87, 26.49, 40.20, 54.39),
    "frost": (31.17, 47.04, 51.32, 44.54, 43.51),
    "fog": (10.68, 20.31, 26.88, 31.00, 37.38),
    "brightness": (9.65, 19.26, 28.14, 36.29, 49.52),
    "contrast": (11.80, 23.59, 28.31, 33.03, 40.11),
    "elastic_transform": (14.51, 13.14, 11.35, 10.30, 7.92),
    "pixelate": (1.34, 1.58, 3.64, 3.52, 3.83),
    "jpeg_compression": (2.80, 3.28, 3.55, 3.89, 4.34),
}


@every_kind
def test_a_corruption_is_as_strong_as_ever(kind):
    images = photographs()
    changes = [np.abs(corrupt(images, kind, s).astype(float) - images).mean() for s in SEVERITIES]
    assert changes == pytest.approx(CHANGES[kind], rel=0.01, abs=0.01)


@every_kind
def test_the_seed_decides(kind):
    images = photographs(4)
    assert np.array_equal(corrupt(images, kind, 3, seed=1), corrupt(images, kind, 3, seed=1))
    random = kind not in {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert np.array_equal(corrupt(images, kind, 3, seed=1), corrupt(images, kind, 3, seed=2)) != random


@every_kind
def test_read_only_images_are_left_alone(kind):
    images = photographs(4)
    before = images.copy()
    images.flags.writeable = False
    corrupt(images, kind, 5)
    assert np.array_equal(images, before)


@every_kind
def test_black_and_white_images_stay_in_range(kind):
    images = np.stack([np.zeros((16, 16, 3)), np.full((16, 16, 3), 255)]).astype(np.uint8)
    with np.errstate(all="raise", under="ignore"):  # no division by the maximum of a black image
        corrupt(images, kind, 5)


@every_kind
def test_images_are_corrupted_differently_unless_the_kind_has_no_chance_in_it(kind):
    images = np.repeat(photographs(1), 2, axis=0)
    first, second = corrupt(images, kind, 4)
    deterministic = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    assert np.array_equal(first, second) == (kind in deterministic)


def test_no_images_are_no_images():
    assert corrupt(np.empty((0, 8, 8, 3), np.uint8), "fog", 1).shape == (0, 8, 8, 3)


def test_chunks_cover_everything():
    count = CHUNK_VALUES // (32 * 32) + 5
    assert (corrupt(np.full((count, 32, 32, 1), 100, np.uint8), "brightness", 1) == 113).all()


def test_no_two_chunks_draw_alike():
    size = CHUNK_VALUES // (64 * 64)
    images = np.full((2 * size, 64, 64, 1), 100, np.uint8)
    result = corrupt(images, "gaussian_noise", 1)
    assert not np.array_equal(result[0], result[size])


def test_noise_has_the_strength_of_cifar10_c():
    grey = np.full((200, 32, 32, 3), 128, np.uint8)
    assert corrupt(grey, "gaussian_noise", 5).std() / 255 == pytest.approx(0.10, rel=0.02)
    assert corrupt(grey, "shot_noise", 5).std() / 255 == pytest.approx(np.sqrt(0.502 / 50), rel=0.02)
    impulses = corrupt(grey, "impulse_noise", 5)
    assert (impulses == 0).mean() == pytest.approx(0.035, rel=0.05)
    assert (impulses == 255).mean() == pytest.approx(0.035, rel=0.05)


def test_contrast_keeps_the_mean_and_shrinks_the_spread():
    images = photographs()
    flat = corrupt(images, "contrast", 5)
    assert np.allclose(flat.mean(axis=(1, 2)), images.mean(axis=(1, 2)), atol=0.6)
    assert flat.std(axis=(1, 2)) == pytest.approx(0.15 * images.std(axis=(1, 2)), rel=0.05)


def test_brightness_adds_to_hsvs_value_and_keeps_the_hue():
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    images = photographs(4)
    hsv = rgb_to_hsv(images / 255)
    hsv[..., 2] = np.minimum(hsv[..., 2] + 0.2, 1)
    assert np.abs(corrupt(images, "brightness", 4) - hsv_to_rgb(hsv) * 255).max() <= 0.51


def test_pixelate_is_pillows_box_filter():
    from PIL import Image

    images = photographs(4)
    for severity, share in zip(SEVERITIES, (0.95, 0.9, 0.85, 0.75, 0.65), strict=True):
        small = int(32 * share)
        for image, result in zip(images, corrupt(images, "pixelate", severity), strict=True):
            theirs = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
            theirs = np.asarray(theirs.resize((32, 32), Image.Resampling.BOX))
            assert np.abs(result.astype(int) - theirs).max() <= 1


def test_blurs_keep_flat_images_and_spread_a_dot():
    flat, dot = np.full((2, 32, 32, 1), 77, np.uint8), np.zeros((2, 32, 32, 1), np.uint8)
    dot[:, 16, 16] = 255
    for kind in ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"):
        assert (corrupt(flat, kind, 5) == 77).all()
    assert corrupt(dot, "defocus_blur", 5).max() < 60
    assert corrupt(dot, "defocus_blur", 5).sum() == pytest.approx(2 * 255, rel=0.1)
    trail = np.argwhere(corrupt(dot, "motion_blur", 5)[0, ..., 0] > 2)
    assert 4 < np.ptp(trail[:, 1]) < 20  # within 45° of sideways
    assert np.ptp(trail[:, 0]) <= np.ptp(trail[:, 1]) + 1


def cropped_and_zoomed(image, factor):
    """One image (H, W, C) of a square at a time, as CIFAR-10-C was made."""
    from scipy.ndimage import zoom

    size = len(image)
    kept = int(np.ceil(size / factor))
    top = (size - kept) // 2
    larger = zoom(image[top : top + kept, top : top + kept], (factor, factor, 1), order=1)
    trimmed = (len(larger) - size) // 2
    return larger[trimmed : trimmed + size, trimmed : trimmed + size]


@pytest.mark.parametrize(("severity", "end", "count"), [(1, 1.06, 7), (2, 1.11, 12), (3, 1.16, 16), (5, 1.26, 26)])
def test_zoom_blur_is_the_originals(severity, end, count):
    images = photographs(3)
    factors = np.arange(1, end, 0.01)
    assert len(factors) == count  # both 1.06 and 1.11 are there
    for image, result in zip(images, corrupt(images, "zoom_blur", severity), strict=True):
        seen = [image / 255, *(cropped_and_zoomed(image / 255, factor) for factor in factors)]
        assert np.abs(result - 255 * np.mean(seen, axis=0)).max() < 0.51


@pytest.mark.parametrize("factor", [1, 1.25, 1.75, 2.25])
def test_flakes_are_magnified_as_the_originals(factor):
    flakes = np.random.default_rng(0).normal(size=(2, 32, 32, 1)).astype(np.float32)
    expected = [cropped_and_zoomed(one, factor) for one in flakes]
    np.testing.assert_allclose(zoomed(flakes, factor), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "factor"), [(26, 1.75), (36, 1.21), (42, 1.75), (224, 7.0), (2, 2.25)])
def test_zooming_makes_no_black_edge_at_any_size(size, factor):
    white = np.ones((1, size, size, 1), np.float32)
    np.testing.assert_allclose(zoomed(white, factor), white, atol=1e-6)


def test_larger_images_are_blurred_over_more_pixels():
    widths = []
    for size in (32, 128):
        edge = np.zeros((1, size, size, 1), np.uint8)
        edge[:, size // 2 :] = 255
        blurred = corrupt(edge, "defocus_blur", 5)[0, :, 0, 0]
        widths.append(((blurred > 0) & (blurred < 255)).sum())
    assert 3 * widths[0] <= widths[1] <= 7 * widths[0]


@pytest.mark.parametrize("severity", [0, 6, 2.5])
def test_a_severity_that_does_not_exist_is_an_error(severity):
    with pytest.raises(InputError, match="from 1 to 5"):
        corrupt(photographs(1), "fog", severity)


def test_unknown_kinds_and_other_arrays_are_an_error():
    with pytest.raises(InputError, match="unknown corruption 'rain': choose from brightness"):
        corrupt(photographs(1), "rain", 1)
    with pytest.raises(InputError, match="uint8"):
        corrupt(photographs(1) / 255, "fog", 1)
    with pytest.raises(InputError, match="uint8"):
        corrupt(photographs(1)[0], "fog", 1)
