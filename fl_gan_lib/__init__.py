"""A teaching laboratory for the GAN attack on federated learning (Hitaj, Ateniese, Perez-Cruz, CCS 2017).

The modules, in the order in which data flows through them: `data`, `models`, `federation`, `metrics`, `archives`,
`records`, `recording`, `checkpoints`, `attack`, `baselines`, `figures`, `widgets`. Importing this package imports none
of them.
"""
