"""Sunabox: an AWS account on one's own machine in which tasks, services and jobs really run."""

__version__ = "0.1.0"
