"""What a search by a proxy is worth, as a study that can be taken up again."""

from hwnas.workflows.study_search.options import ProxySearchOptions
from hwnas.workflows.study_search.result import CHANCE, ProxySearch, SearchedBy
from hwnas.workflows.study_search.study import search_by_proxies

__all__ = ["CHANCE", "ProxySearch", "ProxySearchOptions", "SearchedBy", "search_by_proxies"]
