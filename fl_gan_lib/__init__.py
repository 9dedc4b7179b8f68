"""A teaching laboratory for the GAN attack on federated learning (Hitaj, Ateniese, Perez-Cruz, CCS 2017).

To be read in this order: `data` (labelled images), `partitions` (who holds which), `models` (the two networks),
`federation` (federated averaging), `attack`, `metrics` (what leaks), `records` (what a run leaves behind). These use
`judge`, `layers`, `seeding`, `imports`, and the packages `datasets` and `recording`; `arguments`, `classes` and
`guards` check what callers pass in. What is built on them is in `figures`, `notebooks`, `defences`,
`studies`, `lessons`, `explorer` and `flower`.

The public names below are imported when they are first used.
"""

from importlib import import_module

_PUBLIC = {
    "data": ("ImageDataset",),
    "datasets": ("load_dataset",),
    "partitions": ("partition_by_label", "partition_dirichlet", "partition_iid"),
    "models": ("Classifier", "Generator"),
    "federation": ("Client", "Update", "fedavg", "federate"),
    "attack": ("GANAttacker", "build_federation", "run_attack"),
    "metrics": ("accuracy", "evaluate_samples"),
    "records": ("AttackRecord",),
    "explorer.widget": ("attack_explorer",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
