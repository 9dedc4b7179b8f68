"""What a client, the participants together, or the server can do about the attack (notebook 06).

A defence of a client is a `Client` of another kind, or what it does to the change of its weights before it sends them
(`Client.protect`). A defence of the server is another way to aggregate (`federate(..., aggregate=...)`).
"""

from fl_gan_lib.defences.aggregation import Krum, TrimmedMean, coordinate_median
from fl_gan_lib.defences.clients import AugmentingClient, DropoutClient, WithholdingClient
from fl_gan_lib.defences.keys import KeyedClassifier, KeyedClient
from fl_gan_lib.defences.privacy import ClipAndNoise, PrivateClient, PrivateMean, spent_epsilon
from fl_gan_lib.defences.sharing import ErrorFeedbackClient, KeepLargest, PartialDownloadClient, Quantise

__all__ = [
    "AugmentingClient",
    "ClipAndNoise",
    "DropoutClient",
    "ErrorFeedbackClient",
    "KeepLargest",
    "KeyedClassifier",
    "KeyedClient",
    "Krum",
    "PartialDownloadClient",
    "PrivateClient",
    "PrivateMean",
    "Quantise",
    "TrimmedMean",
    "WithholdingClient",
    "coordinate_median",
    "spent_epsilon",
]
