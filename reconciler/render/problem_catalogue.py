"""What each code of a problem in a file means, and what to do about it.

The texts of ``mmp explain`` and of the reference. Tests check that every code has an entry.
"""

from __future__ import annotations

from reconciler.core.problems import Code, Explanation

_MEANING_AND_REMEDY: dict[Code, tuple[str, str]] = {
    Code.FILE_MISSING: (
        "The path does not exist. A missing file is an error. It never means that nothing is "
        "desired: no family is disabled because a file disappeared.",
        "Check the path and the folder you are in.",
    ),
    Code.FILE_UNREADABLE: (
        "The operating system refuses to read it, or it is not a regular file (a socket, a "
        "device, a file of /proc or /sys; for mmp run also a pipe).",
        "Give the user who runs mmp permission to read it. On a mount, check that the mount exists.",
    ),
    Code.NO_CONFIG_FILES: (
        "The folder has no *.yaml or *.yml file. Subfolders, hidden files and mmp-policy.yaml do "
        "not count.",
        "Name the right folder, or name the file itself.",
    ),
    Code.EMPTY_FILE: (
        "The file is empty or has only comments. This never means “nothing desired”. Usually the "
        "file was truncated while it was written.",
        "Restore the file from version control.",
    ),
    Code.TOO_LARGE: (
        "10,000 families fit into 1 MiB. A file may have at most 120,000 keys, values and lists.",
        "Check the path.",
    ),
    Code.NOT_UTF8: (
        "The bytes at this position are not UTF-8. A byte order mark at the start is accepted. "
        "UTF-16, which some editors on Windows write, is not.",
        "Save the file as UTF-8.",
    ),
    Code.BAD_CHARACTER: (
        "Control characters, invisible direction marks and line breaks other than LF or CR LF are "
        "not allowed: with them a file can look different to a reviewer than to a program.",
        "Delete the character at this position and type the line again.",
    ),
    Code.YAML_SYNTAX: (
        "The file is not valid YAML at this position. The cause is often one line above: a "
        "missing colon, quote or bracket, or wrong indentation.",
        "Correct the line. Nothing after it could be checked, so run mmp validate again.",
    ),
    Code.YAML_ANCHOR: (
        "With an anchor (&name) or alias (*name), one place of the file changes another, which a "
        "reviewer does not see.",
        "Write the value itself; put common values under defaults.",
    ),
    Code.YAML_TAG: (
        "A tag (!name, !!int, %TAG) changes the type of a value without changing how it looks.",
        "Remove the tag.",
    ),
    Code.YAML_MERGE: (
        "<< copies keys from another place; YAML libraries differ in which of two values wins.",
        "Put common values under defaults, and write the other values.",
    ),
    Code.YAML_BLOCK: (
        "A value after | or > has line breaks. No value of this file has line breaks.",
        "Write the value on the same line as its key.",
    ),
    Code.YAML_NUMBER: (
        "A plain value such as 010, 1_000, 1:30, 0x10, 1e3, .5, +5, yes, on or 2024-01-31 is a "
        "number, a truth value, a date or a text, depending on the version of YAML.",
        "Write a number in plain decimal digits; put text in quotes.",
    ),
    Code.MULTIPLE_DOCUMENTS: (
        "A line --- starts a second YAML document. Programs that read only the first would miss it.",
        "One file has one account: move the second document to its own file.",
    ),
    Code.TOO_DEEP: (
        "The file has more levels of nesting than any file of this format can have.",
        "Check for brackets that are not closed, and compare with mmp schema mmp.",
    ),
    Code.NON_STRING_KEY: (
        "Before the colon is a list, a mapping, nothing, or a value that YAML reads as a number "
        "or truth value.",
        "Use one of the documented keys; family names are text such as BTC-USD.",
    ),
    Code.DUPLICATE_KEY: (
        "YAML programs silently use the last of two equal keys; a reviewer may have read the first.",
        "Delete the wrong one.",
    ),
    Code.UNKNOWN_KEY: (
        "An unknown key is an error, because a mistyped limit would otherwise be no limit.",
        "Correct the spelling; field names are OKX's: timeInterval, frozenInterval, qtyLimit.",
    ),
    Code.MISSING_KEY: (
        "version, environment and families are required, and for every family timeInterval, "
        "frozenInterval and qtyLimit, its own or from defaults. There are no built-in values, "
        "because OKX replaces all three at every write. A policy requires version, and maxFactor "
        "with per.",
        "Add the key to the family, or under defaults for all families.",
    ),
    Code.WRONG_TYPE: (
        "There is a single value instead of a mapping, or a mapping instead of a single value.",
        "Compare with the example in the message; mmp schema mmp prints the format.",
    ),
    Code.NULL_VALUE: (
        "An empty value, null or ~ is not allowed. It does not mean zero, disabled, a default or “remove”.",
        "Write the value, or delete the key.",
    ),
    Code.BAD_VERSION: (
        "version is the version of the file format. mmp reads version 1 only.",
        "Write version: 1, a number without quotes.",
    ),
    Code.BAD_ACCOUNT: (
        "account is your own name for the account: 1 to 63 lower-case letters, digits, dots, "
        "dashes and underscores, beginning with a letter or digit. Default: main.",
        "Choose such a name; put it in quotes if it looks like a number.",
    ),
    Code.BAD_ENVIRONMENT: (
        "OKX has two environments: live trading and demo trading.",
        "Write environment: live or environment: demo.",
    ),
    Code.BAD_UID: (
        "expect.uid is compared with the uid of OKX as text. It must be digits in quotes, because "
        "YAML changes plain numbers (0123 is not 123).",
        'Write it as uid: "446556540"; OKX shows it on the profile page.',
    ),
    Code.BAD_PREFIX: (
        "credentials.prefix names the key variables: OKX_ means OKX_API_KEY, OKX_SECRET_KEY and "
        "OKX_PASSPHRASE. It has capital letters, digits and underscores, begins with a letter and "
        "ends with an underscore. Never write keys into this file.",
        "Write a prefix such as OKX_DESK2_. If a key was written here, revoke it at OKX.",
    ),
    Code.NO_FAMILIES: (
        "families is empty. This never means “nothing desired”; a file without families is an error.",
        "List at least one family, for example BTC-USD: {qtyLimit: 100}.",
    ),
    Code.TOO_MANY_FAMILIES: (
        "With 2 requests in 10 seconds, writing so many settings would take more than half a day.",
        "Check how the file was generated.",
    ),
    Code.BAD_FAMILY: (
        "A family has OKX's name, in capitals: BTC-USD, SOL-USD_UM. An instrument such as "
        "BTC-USD-240628-60000-C belongs to the family BTC-USD.",
        "Write the name of the family, as OKX shows it.",
    ),
    Code.BAD_INTERVAL: (
        "An interval is a whole number of milliseconds of at most 10 digits (5000), or a whole number and "
        "one unit without a space (500ms, 5s, 2m, 1h). Besides these, timeInterval may be disabled and "
        "frozenInterval may be until-reset.",
        "Use one of these forms, for example 90s.",
    ),
    Code.ZERO_WITH_UNIT: (
        "Zero is not a duration at OKX: timeInterval 0 switches the protection off, "
        "frozenInterval 0 freezes until a manual reset. 0s looks like “very short”, which is "
        "neither.",
        "Write the word: timeInterval: disabled or frozenInterval: until-reset.",
    ),
    Code.BARE_ZERO: (
        "0 means what it means at OKX, and the two fields have opposite meanings: timeInterval 0 "
        "is no protection, frozenInterval 0 is the longest freeze.",
        "Write disabled or until-reset, so that a reviewer sees the meaning.",
    ),
    Code.SHORT_INTERVAL: (
        "A plain number is milliseconds. Such a short interval protects very little; usually "
        "seconds are meant.",
        "Write 5s for five seconds. If milliseconds are meant, ignore the warning.",
    ),
    Code.BAD_QUANTITY: (
        "qtyLimit is a plain decimal number greater than 0 of at most 20 digits, such as 100 or 0.5: no "
        "sign, no exponent, no thousands separator, no unit, no leading zeros.",
        "Use this form. To switch a family's protection off, use timeInterval: disabled.",
    ),
    Code.DUPLICATE_ACCOUNT: (
        "Two files have the same account and environment.",
        "Merge the two files, or correct the account of one of them.",
    ),
    Code.BAD_PATTERN: (
        "In bounds a key with a * is a pattern: capitals, digits, dashes and underscores as in "
        "family names, and * for any characters. A pattern that begins with * must be in quotes, "
        "because YAML reads it as an alias.",
        'Examples: "ETH-*", "*-USD_UM".',
    ),
    Code.BAD_CHOICE: (
        "disable, disabled, until-reset and loosening.unknown take the words deny and allow, not "
        "truth values.",
        "Write deny or allow.",
    ),
    Code.BAD_FACTOR: (
        "loosening.maxFactor is a plain decimal number of at least 1: the largest factor of a "
        "change. With 2, qtyLimit may change from 100 to 200, or timeInterval from 10s to 5s, but "
        "not both at once. With 1 no exposure may rise. floor.factor is a number of the same "
        "kind.",
        "Write a number such as 2 or 1.5.",
    ),
    Code.BAD_COUNT: (
        "loosening.maxFamilies is a whole number without quotes: how many families may get looser "
        "in one plan. 0: none.",
        "Write a number such as 3.",
    ),
    Code.BAD_SHARE: (
        "loosening.maxShare is a percentage from 0% to 100% of the families in force. 0.5 and 50 "
        "are not accepted, because they are ambiguous.",
        "Write a percentage such as 50%.",
    ),
    Code.BAD_WINDOW: (
        "loosening.per is a whole number and one unit without a space: m (minutes), h (hours) or d (days), "
        "from 1m to 7d. Accepted settings stay on record for longer than 7 days.",
        "Write a time such as 24h.",
    ),
    Code.MIN_OVER_MAX: (
        "No value is at least min and at most max, so every value would be refused.",
        "Swap the two, or correct the unit of one of them.",
    ),
    Code.DUPLICATE_FAMILY: (
        "protected lists the same family twice. Another family may be meant.",
        "Delete one of the two, or correct it.",
    ),
    Code.TWO_POLICIES: (
        "The folder has mmp-policy.yaml and mmp-policy.yml.",
        "Merge the two files into one, or name one with --policy.",
    ),
    Code.POLICY_BOUNDS: (
        "The policy limits the field for this family, a pattern or all families, and the file has "
        "a value beyond the limit. mmp validate exits 3, plan holds the family, and apply sends "
        "nothing.",
        "Choose a value within the limit, change the policy, or override it once: mmp plan --family "
        "FAMILY prints the command (--allow bounds:FAMILY).",
    ),
    Code.POLICY_PROTECTED: (
        "The policy lists the family as protected: it must stay in the file and enabled.",
        "Restore the family, change the policy, or override it once: mmp plan prints the command "
        "(--allow protected:FAMILY).",
    ),
    Code.POLICY_UNMATCHED: (
        "The name or pattern matches no family of any account that the policy applies to, so these bounds "
        "limit nothing. The intended family gets the default bounds.",
        "Correct the name, or delete the entry.",
    ),
    Code.POLICY_FLOOR: (
        "Such a short window is as good as disabled: a change to it needs the same override as "
        "disabling. Once accepted, it stays in force, and drift from it is restored as usual.",
        "Choose a longer timeInterval, or ignore the warning if it is meant.",
    ),
    Code.POLICY_MISSING: (
        "A policy was in use for this User ID, and now there is no policy file. Changes that "
        "loosen or disable are refused; the rules on record apply to the others. mmp apply sends "
        "those, then exits 4.",
        "Restore the file or name it with --policy. To give the policy up: mmp apply or mmp run with "
        '--no-policy SHA256 --reason "…"; the message has the hash.',
    ),
    Code.MORE_PROBLEMS: (
        "At most 100 problems of a file are listed, errors first. The rest of the file may not "
        "have been checked.",
        "Correct these, then run mmp validate again.",
    ),
}

CATALOGUE = {code: Explanation(code.summary, *texts) for code, texts in _MEANING_AND_REMEDY.items()}
"""Every code, explained."""
