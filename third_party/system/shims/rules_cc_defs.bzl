"""The part of rules_cc that is used here, on Bazel's native rules.

Debian's bazel-rules-cc (0.0.4) is too new for its bazel-bootstrap (4.2.3).
"""

cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_library = native.objc_library
