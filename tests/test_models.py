import torch
from torch import nn

from fl_gan_lib.models import LATENT_DIM, NUM_OUTPUTS, Classifier, Generator


def test_shapes_and_ranges():
    images = Generator()(torch.randn(5, LATENT_DIM))
    assert images.shape == (5, 1, 28, 28)
    assert images.abs().max() <= 1
    assert Classifier()(images).shape == (5, NUM_OUTPUTS)


def test_pooling_before_tanh_is_the_published_order():
    images = torch.randn(4, 1, 28, 28)
    model = Classifier().eval()
    layers = list(model)
    published = nn.Sequential(layers[0], layers[2], layers[1], layers[3], layers[5], layers[4], *layers[6:])
    torch.testing.assert_close(model(images), published(images))
