import torch
from torch import nn

from fl_gan_lib.models import (
    LATENT_DIM,
    AveragedGenerator,
    Classifier,
    Generator,
    PixelConv2d,
    PixelConvTranspose2d,
)


def test_shapes_and_ranges():
    images = Generator()(torch.randn(5, LATENT_DIM))
    assert images.shape == (5, 1, 28, 28)
    assert images.abs().max() <= 1
    assert Classifier()(images).shape == (5, 11)


def test_pooling_before_tanh_is_the_published_order():
    images = torch.randn(4, 1, 28, 28)
    model = Classifier().eval()
    layers = list(model)
    published = nn.Sequential(layers[0], layers[2], layers[1], layers[3], layers[5], layers[4], *layers[6:])
    torch.testing.assert_close(model(images), published(images))


def test_the_matrix_products_are_the_convolutions_of_pytorch_values_and_gradients():
    pairs = [
        (PixelConv2d(1, 32, kernel_size=5), nn.Conv2d(1, 32, kernel_size=5), (3, 1, 28, 28)),
        (
            PixelConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),
            nn.ConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),
            (3, 32, 14, 14),
        ),
    ]
    for layer, reference, shape in pairs:
        layer, reference = layer.double(), reference.double()
        reference.load_state_dict(layer.state_dict())
        inputs = torch.randn(shape, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
        results = []
        for module in (layer, reference):
            output = module(inputs)
            weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
            results.append([output, *torch.autograd.grad((output * weights).sum(), [inputs, *module.parameters()])])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_pictures_are_drawn_by_the_running_average():
    generator, discriminator = AveragedGenerator(10), Classifier().eval().requires_grad_(False)
    mean = None
    for step in range(4):
        generator.step(discriminator, 3)
        new = generator.model[0].weight.detach().clone()
        mean = new if mean is None else mean + (new - mean) * max(0.005, 9 / (10 + step))
    assert torch.equal(generator.average.module[0].weight, mean)
    assert not torch.equal(mean, new)
    running = generator.average.module[1].running_mean
    assert not torch.equal(running, generator.model[1].running_mean), "the statistics of batch norm are averaged too"
    assert generator.average.module[1].num_batches_tracked == 4
