"""Reads the metrics pages and model lists of all servers, each at its own pace and none at the expense of another.

`Scraper` owns one `Probe` (a task) and one kept-alive `Connection` for each endpoint. What a page says is told as
`Sampled`, `SampleFailed` or `ModelsListed`. `telemetry.dialects` understands pages, `telemetry.pace` sets the rhythm.
"""

from stellwerk.edge.scrape.probe import Scraped
from stellwerk.edge.scrape.scraper import Scraper

__all__ = ["Scraped", "Scraper"]
