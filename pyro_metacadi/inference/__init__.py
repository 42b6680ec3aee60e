"""Objective (Eq. 7) -> training -> posterior -> ArviZ."""

from pyro_metacadi._lazy import attach

__all__ = [
    "ELBOObjective",
    "MetaCaDIObjective",
    "PaperObjective",
    "Posterior",
    "Sampling",
    "Training",
    "draws_table",
    "read_inference_data",
    "to_inference_data",
    "train",
    "write_zarr",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "ELBOObjective": ".objective",
        "MetaCaDIObjective": ".objective",
        "PaperObjective": ".objective",
        "Posterior": ".posterior",
        "Sampling": ".evidence",
        "Training": ".training",
        "draws_table": ".arviz_tables",
        "read_inference_data": ".arviz",
        "to_inference_data": ".arviz",
        "train": ".training",
        "write_zarr": ".arviz",
    },
)
