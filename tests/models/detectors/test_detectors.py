"""What every detector keeps to: torchvision's convention, no hidden resizing, no hidden caps."""

import pytest
import torch
from smallbackbone import SMALL
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator

from configs import ConfigError
from models import build_detector
from models.detectors.dense import FieldTransform

CLASSES = ["NILM", "LSIL", "HSIL"]
DETECTORS = ["atss", "fcos", "reppoints", "retinanet", "yolof"]
OF_TORCHVISION = ["fcos", "retinanet"]
OVERFIT = [
    *["fcos", "retinanet"],
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("atss", "yolof", "reppoints")),
]
BACKBONES = [
    "mobilenet_v2",
    "mobilenet_v2_dense",
    "mobilenet_v3_large",
    "resnet18",
    "resnet50",
    "efficientnet_lite0",
]


def small(name: str, **settings):
    torch.manual_seed(0)
    config = {"name": name, "classes": CLASSES, "head_convs": 1, "pyramid": {"channels": 32}}
    return build_detector(config | SMALL | settings)


def target(*rows):
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor([row[4] for row in rows], dtype=torch.int64)}


@pytest.mark.parametrize(
    ("name", "backbone"),
    [(name, BACKBONES[0]) for name in DETECTORS] + [("fcos", other) for other in BACKBONES[1:]],
)
def test_trains_and_detects_on_images_of_odd_sizes(name, backbone):
    model = small(name, backbone=backbone)
    images = [torch.rand(3, 97, 130), torch.rand(3, 64, 33)]
    losses = model(images, [target((10, 10, 60, 50, 2)), target()])
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        found = model.eval()(images)
    assert [set(one) for one in found] == [{"boxes", "labels", "scores", "class_scores"}] * 2
    for one, image in zip(found, images, strict=True):
        height, width = image.shape[1:]
        rows = torch.arange(len(one["labels"]))
        torch.testing.assert_close(one["class_scores"][rows, one["labels"]], one["scores"])
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= torch.tensor([width, height] * 2)).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_batch_gives_what_single_images_give(name):
    """The raw outputs: of detections, rounding may reorder those of an untrained network."""
    model = small(name).eval()
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.no_grad():
        together, _, _ = model.run(model.transform(images)[0])
        for i, image in enumerate(images):
            alone, _, _ = model.run(model.transform([image])[0])
            for key, value in together.items():
                torch.testing.assert_close(value[i], alone[key][0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", DETECTORS)
def test_trains_on_a_crowd_in_half_precision(name):
    """300 cells in one image, none in the other; boxes may cross the border."""
    model = small(name)
    corners = torch.rand(300, 2) * 128 - 8
    crowd = {
        "boxes": torch.cat([corners, corners + 4 + torch.rand(300, 2) * 60], dim=1),
        "labels": torch.randint(3, (300,)),
    }
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, [crowd, target()])
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert losses["bbox_regression"] > 0
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model.eval()(images)[0]["boxes"].dtype == torch.float32


def test_images_keep_their_scale():
    config = small("fcos").config
    transform = FieldTransform(config)
    image = torch.rand(3, 100, 70)
    batch, _ = transform([image])
    restored = batch.tensors[0, :, :100, :70] * transform.std + transform.mean
    torch.testing.assert_close(restored, image)
    assert batch.tensors.shape[-2:] == (128, 128)
    assert batch.image_sizes == [(100, 70)]


@pytest.mark.parametrize("name", DETECTORS)
def test_no_cap_on_detections_of_a_class_unless_one_is_set(name):
    """Of each class its best: what one class has more of takes no room from another."""
    image = [torch.rand(3, 160, 160)]
    settings = {"score_threshold": 0.0, "nms_iou": 1.0}
    with torch.no_grad():
        unlimited = small(name, **settings).eval()(image)[0]
        capped = small(name, max_detections=7, **settings).eval()(image)[0]
    assert len(unlimited["boxes"]) > 1000
    for label in unlimited["labels"].unique():
        best = unlimited["scores"][unlimited["labels"] == label][:7]
        torch.testing.assert_close(capped["scores"][capped["labels"] == label], best)
    assert (capped["scores"].diff() <= 0).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_thresholds_a_class(name):
    model = small(name, score_threshold=0.001).eval()
    image = [torch.rand(3, 128, 128)]
    with torch.no_grad():
        everything = model(image)[0]
        of_one = everything["scores"][everything["labels"] == 1]
        model.use_thresholds([1.0, of_one.median().item(), 1.0])
        some = model(image)[0]
    assert set(some["labels"].tolist()) == {1}
    assert some["scores"].min() >= of_one.median()


@pytest.mark.parametrize("name", OVERFIT)
def test_labels_are_zero_based_indices_into_the_classes(name):
    """Overfits one cell of each class: the first class must not be taken for the background."""
    levels = [3] if name == "yolof" else [3, 4]
    model = small(
        name,
        pyramid={"channels": 32, "levels": levels},
        prior_probability=0.1,
        atss={"anchor_scale": 4},
    )
    torch.manual_seed(1)
    image = torch.rand(3, 64, 192) * 0.1
    rows = [(64.0 * k + 16, 16.0, 64.0 * k + 48, 48.0, k) for k in range(3)]
    for k, channel in enumerate(image):
        channel[16:48, 64 * k + 16 : 64 * k + 48] += 0.9
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    # RepPoints has few positives until its initial points have found the cells.
    for _ in range(150 if name == "reppoints" else 60):
        optimizer.zero_grad()
        torch.stack(list(model([image], [target(*rows)]).values())).sum().backward()
        optimizer.step()
    for module in model.modules():  # so few images give no running statistics to rely on
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    with torch.no_grad():
        found = model.eval()([image])[0]
    for row in rows:
        near = (found["boxes"] - torch.tensor(row[:4])).abs().amax(dim=1) < 16
        assert found["labels"][near][found["scores"][near].argmax()] == row[4]


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_losses_are_torchvisions_to_the_bit_with_its_focal_loss(name):
    """The same weights and images through torchvision's own loss code."""
    normaliser = "image_positives" if name == "retinanet" else "positives"
    ours = small(name, loss={"name": "focal"}, normaliser=normaliser)
    images = [torch.rand(3, 128, 128), torch.rand(3, 128, 128)]
    targets = [target((20, 30, 70, 90, 0), (5, 5, 40, 40, 2)), target()]
    batch, _ = ours.transform(images)
    outputs, anchors, level_sizes = ours.run(batch)
    if name == "fcos":
        theirs = detection.FCOS.compute_loss
        parent = detection.fcos.FCOSHead.compute_loss
        ours_loss = ours.compute_loss(targets, outputs, anchors, level_sizes)
        ours.head.compute_loss = parent.__get__(ours.head)
        expected = theirs(ours, targets, outputs, anchors, level_sizes)
    else:
        parent = detection.retinanet.RetinaNetClassificationHead.compute_loss
        ours_loss = ours.compute_loss(targets, outputs, anchors, level_sizes)
        classification = ours.head.classification_head
        classification.compute_loss = parent.__get__(classification)
        expected = detection.RetinaNet.compute_loss(ours, targets, outputs, anchors)
    assert ours_loss.keys() == expected.keys()
    for key in expected:
        assert ours_loss[key].item() == expected[key].item(), key


def test_anchors_are_exact_in_half_precision():
    model = small("retinanet")
    features = [torch.zeros(1, 32, 128 >> k, 128 >> k) for k in range(4)]
    batch, _ = model.transform([torch.zeros(3, 1024, 1024)])
    exact = model.anchor_generator(batch, features)
    half = model.anchor_generator(batch, [f.bfloat16() for f in features])
    assert half[0].dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0, rtol=0)
    assert isinstance(model.anchor_generator, AnchorGenerator)


def test_default_anchors_span_the_cells_of_this_field():
    model = small("retinanet")
    sides = [side for level in model.anchor_generator.sizes for side in level]
    assert min(sides) == pytest.approx(20)
    assert max(sides) == pytest.approx(254, abs=1)


@pytest.mark.parametrize("name", DETECTORS)
def test_only_the_wanted_levels_are_computed(name):
    model = small(name, pyramid={"channels": 32, "levels": [3]})
    assert list(model.backbone.pyramid.smooth) == ["3"]
    assert [f.shape[-1] for f in model.backbone(torch.rand(1, 3, 64, 64)).values()] == [8]


def test_weight_of_the_loss_scales_classification_only():
    images, targets = [torch.rand(3, 128, 128)], [target((10, 10, 40, 40, 1))]
    light = small("fcos")(images, targets)
    heavy = small("fcos", loss={"name": "grad_libra", "weight": 3.0})(images, targets)
    torch.testing.assert_close(heavy["classification"], 3 * light["classification"])
    torch.testing.assert_close(heavy["bbox_regression"], light["bbox_regression"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vgg"}, "backbone = 'vgg'"),
        ({"clases": []}, "unknown key clases; did you mean classes"),
        ({"classes": ["A", "A"]}, "differ"),
        ({"classes": []}, "at least 1"),
        ({"abnormal": ["SCC"]}, "SCC, which are no classes"),
        ({"pyramid": {"levels": [3, 5]}}, "consecutive"),
        ({"backbone_weights": "no/such/file.pth"}, "no such file"),
        ({"loss": {"name": "libra"}}, "loss"),
    ],
)
def test_refuses_a_wrong_configuration_by_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        small("fcos", **settings)


def test_training_wants_a_target_for_each_image():
    model = small("fcos")
    with pytest.raises(ValueError, match="one target"):
        model([torch.rand(3, 64, 64)])
    with pytest.raises(ValueError, match="no area"):
        model([torch.rand(3, 64, 64)], [target((10, 10, 10, 40, 1))])


def test_starts_from_imagenet_weights(shared):
    path = shared / "weights" / "mobilenet_v2-b0353104.pth"
    model = small("fcos", backbone="mobilenet_v2", backbone_weights=str(path))
    state = torch.load(path, weights_only=True)
    torch.testing.assert_close(model.backbone.body["0"][0].weight, state["features.0.0.weight"])
    with pytest.raises(ConfigError, match="not weights of torchvision's resnet18"):
        small("fcos", backbone="resnet18", backbone_weights=str(path))


def test_the_dense_backbone_takes_imagenet_weights_above_its_own_part(shared, tmp_path):
    path = shared / "weights" / "mobilenet_v2-b0353104.pth"
    model = small("fcos", backbone="mobilenet_v2_dense", backbone_weights=str(path))
    state = torch.load(path, weights_only=True)
    other = tmp_path / "other.pth"
    torch.save({"features.6.0.0.weight": state["features.0.0.weight"]}, other)
    own = model.backbone.body["7"].conv[0][0].weight
    torch.testing.assert_close(own, state["features.7.conv.0.0.weight"])
    with pytest.raises(ConfigError, match="not weights of torchvision's mobilenet_v2_dense"):
        small("fcos", backbone="mobilenet_v2_dense", backbone_weights=str(other))
