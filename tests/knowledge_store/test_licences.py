from pathlib import Path

import pytest

from knowledge_store.licences import licence_of_text, settled_licence, stated_licence

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("// SPDX-License-Identifier: Apache-2.0", "Apache-2.0"),
        (
            "# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n# x",
            "Apache-2.0 WITH LLVM-exception",
        ),
        ("# SPDX-License-Identifier:  MIT OR Apache-2.0 ", "MIT OR Apache-2.0"),
        ("SPDX-License-Identifier: BSD-3", "BSD-3-Clause"),
        ("SPDX-License-Identifier: NVIDIA TensorRT Source Code License", "LicenseRef-NVIDIA"),
        (' * Licensed under the Apache License, Version 2.0 (the "License");', "Apache-2.0"),
        (
            "// Part of the project, under the Apache License v2.0 with LLVM Exceptions.",
            "Apache-2.0 WITH LLVM-exception",
        ),
        ("released under the MIT license", "MIT"),
        ("This source code is licensed under the BSD-style license", "BSD-3-Clause"),
        ("// Copyright the authors", ""),
        ("", ""),
    ],
)
def test_first_lines_state_a_licence(head, licence):
    assert stated_licence(head) == licence


def test_our_own_licence_file_is_known():
    assert licence_of_text((ROOT / "LICENSE").read_text()) == "Apache-2.0"


BSD = "Redistribution and use in source and binary forms, with or without modification\n"
MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy\n"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MIT, "MIT"),
        (BSD, "BSD-2-Clause"),
        (BSD + "Neither the name of the holder", "BSD-3-Clause"),
        ("GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007", "GPL-3.0-only"),
        (MIT + BSD, "unknown"),
        ("All rights reserved.", "unknown"),
        ("", "unknown"),
        ("SPDX-License-Identifier: ISC", "ISC"),
    ],
)
def test_a_licence_file_is_known_where_it_holds_one_licence(text, licence):
    assert licence_of_text(text) == licence


@pytest.mark.parametrize(
    ("statements", "licence"),
    [
        (("MIT", "BSD-3-Clause"), "MIT"),
        (("NOASSERTION", "BSD-3-Clause"), "BSD-3-Clause"),
        (("inherits-from-upstream", "", None, "Other", " MIT "), "MIT"),
        (("unknown", None), "unknown"),
        ((), "unknown"),
    ],
)
def test_the_first_statement_that_says_something_holds(statements, licence):
    assert settled_licence(*statements) == licence
