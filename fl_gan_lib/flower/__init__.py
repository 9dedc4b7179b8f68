"""The attack on Flower (https://flower.ai), on one computer or on several."""
