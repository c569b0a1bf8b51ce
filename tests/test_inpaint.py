"""Drawing a part of a picture anew: what is drawn, what stays, which masks are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.pictures.files import generate_file
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.denoiser import Noise
from kolors_lab.sampling.inpaint import Area, Masked
from kolors_lab.sampling.masks import draw_mask, feather, grow, parse_box, read_mask
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate

FAST = {"steps": 2, "width": 64, "height": 64}


@pytest.fixture
def photo():
    return Image.linear_gradient("L").resize((64, 64)).convert("RGB")


def numbers(image):
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize("fill", ["original", "grey"])
@pytest.mark.parametrize("mask", ["box:16,8,24,40", "ellipse:16,8,24,40"])
def test_outside_of_the_mask_nothing_changes_to_the_pixel(pipe, photo, mask, fill):
    drawn = numbers(generate(pipe, "白马", image=photo, mask=mask, mask_fill=fill, **FAST))
    white = np.asarray(read_mask(mask, photo.size)) > 0
    changed = (drawn != numbers(photo)).any(-1)
    assert not changed[~white].any()
    assert changed[white].mean() > 0.5


def test_a_mask_picture_is_the_mask(pipe, photo, tmp_path):
    draw_mask("box", (16, 8, 24, 40), photo.size).save(tmp_path / "mask.png")
    given = [tmp_path / "mask.png", Image.open(tmp_path / "mask.png"), "box:16,8,24,40"]
    one, *others = (numbers(generate(pipe, "白马", image=photo, mask=mask, **FAST)) for mask in given)
    assert all(np.array_equal(one, other) for other in others)


def test_the_model_sees_the_original_with_the_steps_noise_outside(photo):
    """As ComfyUI's KSamplerX0Inpaint: on the way in and on the way out."""

    class Inner:
        sigmas, device, seen = torch.tensor([0.1, 9.0]), torch.device("cpu"), []

        def __call__(self, x, sigma):
            self.seen.append(x)
            return torch.full_like(x, 7.0)

    original, noise = torch.ones(1, 4, 8, 8), torch.full((1, 4, 8, 8), 0.5)
    shares = torch.zeros(1, 1, 8, 8)
    shares[..., :4] = 1
    inner = Inner()
    out = Masked(inner, original, shares, noise)(torch.full((1, 4, 8, 8), 3.0), 2.0)
    assert (inner.seen[0][..., :4] == 3).all() and (inner.seen[0][..., 4:] == 1 + 0.5 * 2).all()
    assert (out[..., :4] == 7).all() and (out[..., 4:] == 1).all()


def test_grey_hides_what_lay_under_the_mask(pipe, photo):
    mask = "box:16,8,24,40"
    area = Area.cut(photo, mask, 64, 64, "grey")
    white = np.asarray(area.mask) > 0
    assert (numbers(area.hidden())[white] == 127).all()
    assert np.array_equal(numbers(area.hidden())[~white], numbers(photo)[~white])
    assert not torch.equal(area.latents(pipe), Area.cut(photo, mask, 64, 64).latents(pipe))


def test_the_mask_grows_for_the_model_alone():
    mask = draw_mask("box", (16, 16, 16, 16), (64, 64))
    assert grow(mask, 6).getbbox() == (13, 13, 35, 35)
    assert feather(mask, 6).getbbox()[0] >= 16 and np.asarray(feather(mask, 6))[24, 24] > 240


def test_a_unet_of_nine_channels_reads_mask_and_hidden_picture(pipe, photo):
    torch.manual_seed(3)
    pipe.unet.conv_in = torch.nn.Conv2d(9, pipe.unet.config.block_out_channels[0], 3, padding=1)
    pipe.unet.register_to_config(in_channels=9)
    seen = []
    pipe.unet.conv_in.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    drawn = numbers(generate(pipe, "白马", image=photo, mask="box:16,0,32,64", **FAST))
    area = Area.cut(photo, "box:16,0,32,64", 64, 64)
    assert seen[0].shape == (2, 9, 8, 8)
    assert seen[0][0, 4, :, 3].eq(1).all() and seen[0][0, 4, :, 0].eq(0).all()
    from kolors_lab.sampling.latents import encode_image

    assert torch.allclose(seen[0][0, 5:], encode_image(pipe, area.hidden(), 64, 64)[0], atol=1e-5)
    assert np.array_equal(drawn[:, :16], numbers(photo)[:, :16])
    with pytest.raises(SettingError, match="draws parts of pictures only"):
        generate(pipe, "白马", **FAST)


def test_equal_noise_covers_the_picture_and_the_canvas():
    assert torch.equal(Noise([3], (4, 8, 8))(), Noise([3], (4, 8, 8))())


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("box:60,0,16,16", "outside of the picture, which has 64 x 64 px"),
        ("box:-1,0,16,16", "outside"),
        ("box:1,2,3", "must be x,y,w,h"),
        ("box:1,2,0,3", "at least 1"),
        ("box:0,0,64,64", "all white"),
        (Image.new("L", (64, 64)), "all black"),
        (Image.new("L", (32, 64), 255), "32 x 64 px, the picture 64 x 64"),
    ],
)
def test_masks_that_cannot_be_are_refused(pipe, photo, mask, said):
    with pytest.raises(SettingError, match=said) as error:
        generate(pipe, "白马", image=photo, mask=mask, **FAST)
    assert "\n" not in str(error.value)


def test_a_mask_file_that_is_no_picture_is_refused(tmp_path):
    (tmp_path / "mask.png").write_text("no")
    with pytest.raises(DataError, match=r"mask\.png"):
        read_mask(tmp_path / "mask.png", (64, 64))


def test_a_mask_needs_its_picture(pipe):
    with pytest.raises(SettingError, match="give both"):
        generate(pipe, "白马", mask="box:0,0,8,8", **FAST)
    with pytest.raises(SettingError, match="needs an image"):
        GenerateConfig(mask="box:0,0,8,8")


def test_the_mask_is_a_setting_of_the_picture(pipe, pipe_folder, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    given = {"preset": str(pipe_folder), "image": str(tmp_path / "photo.png"), "mask": "box:16,8,24,40"}
    found = read_settings(generate_file(GenerateConfig(**given, **FAST, out=str(tmp_path / "a.png")), pipe))
    assert (found["mask"], found["mask_fill"], found["mask_grow"]) == ("box:16,8,24,40", "original", 6)


def test_boxes_are_four_numbers():
    assert parse_box("1,2,3,4") == (1, 2, 3, 4)
