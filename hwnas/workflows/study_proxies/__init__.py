"""Cost models judged by evaluated subnets, as a study that can be taken up again."""

from hwnas.workflows.study_proxies.options import ProxyOptions
from hwnas.workflows.study_proxies.study import ProxyRow, ProxyStudy, study_proxies

__all__ = ["ProxyOptions", "ProxyRow", "ProxyStudy", "study_proxies"]
