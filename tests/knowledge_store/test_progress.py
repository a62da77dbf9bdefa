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


def test_why_a_source_was_left_is_among_the_problems():
    report = Report(source="here")
    report.stop("the rate limit; go on after noon")
    assert report.stopped == "the rate limit; go on after noon"
    assert report.problems == [report.stopped]


def test_a_summary_says_every_count_that_is_not_zero():
    report = Report(source="here", changed=3, deferred=1)
    report.contain("links")
    report.missing.append("a/b#1")
    report.stop("damaged")
    expected = "here: 3 changed, 1 deferred, 1 without a diff, 1 problems, 1 links"
    assert report.summary() == expected
    assert Report(source="there").summary() == "there: nothing there"
