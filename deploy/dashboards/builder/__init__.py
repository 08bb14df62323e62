"""Builds Grafana's dashboards from the metric families.

`python -m deploy.dashboards.builder` writes the JSON files beside this package.
"""
