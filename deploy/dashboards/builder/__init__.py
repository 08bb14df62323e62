"""Builds Grafana's dashboards from the metric catalogue: `python -m deploy.dashboards.builder` writes the JSON files
beside this package.
"""
