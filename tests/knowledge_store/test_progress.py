from knowledge_store.progress import Progress, Report, silent


def test_a_report_counts_pull_requests_by_what_happened_to_them():
    report = Report(source="here")
    for outcome in ("changed", "changed", "unchanged", "deferred", "dropped"):
        report.count(outcome)
    assert (report.changed, report.unchanged, report.deferred, report.dropped) == (2, 1, 1, 1)
    assert report.total == 5


def test_a_report_counts_what_was_contained_by_kind():
    report = Report(source="here")
    for what in ("links", "too large", "links"):
        report.contain(what)
    assert report.contained == {"links": 2, "too large": 1}


def test_reports_share_nothing():
    one, other = Report(source="one"), Report(source="other")
    one.missing.append("a/b#1")
    one.problems.append("x")
    one.contain("links")
    assert (other.missing, other.problems, other.contained) == ([], [], {})


def test_nobody_need_listen():
    silent(Progress(stage="bundles", done=1, total=None))
