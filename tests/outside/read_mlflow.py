"""What an mlflow server knows of an experiment's only run: read_mlflow.py ADDRESS EXPERIMENT."""

import json
import sys

from mlflow import MlflowClient

client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2])
(run,) = client.search_runs([experiment.experiment_id])
losses = client.get_metric_history(run.info.run_id, "train/loss")
print(json.dumps({"status": run.info.status, "params": run.data.params, "metrics": run.data.metrics, "losses": len(losses)}))
