"""The further commands of `metrics-server`: replay of files, a simulated cluster, migration between stores."""
