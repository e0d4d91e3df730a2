"""What a run leaves on disk: its folder, and one line for each evaluation."""

from hwnas.records.environment import describe_environment, hash_file, hash_inputs
from hwnas.records.evaluation import Evaluation
from hwnas.records.run_folder import RunFolder, config_hash
from hwnas.records.subnets import EvaluatedSubnet, read_subnets, subnets_file
from hwnas.records.verified import Verification, VerifiedDesign

__all__ = [
    "EvaluatedSubnet",
    "Evaluation",
    "RunFolder",
    "Verification",
    "VerifiedDesign",
    "config_hash",
    "describe_environment",
    "hash_file",
    "hash_inputs",
    "read_subnets",
    "subnets_file",
]
