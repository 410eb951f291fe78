"""`redrive demo`: one Airflow DAG, one worker, one broker, on this machine, watched from beside."""
