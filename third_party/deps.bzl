"""All external dependencies, in one macro."""

load("//third_party/system:abseil.bzl", "abseil_repositories")
load("//third_party/system:bazel_rules.bzl", "bazel_repositories")
load("//third_party/system:pkg_config.bzl", "pkg_config_repository")

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def muster_deps():
    """Declares what the workspace uses, under the names of upstream's Bazel builds."""
    bazel_repositories()
    abseil_repositories()
    _maybe(
        pkg_config_repository,
        name = "com_github_simdjson_simdjson",
        libs = {":simdjson": ["simdjson"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_cyan4973_xxhash",
        libs = {":xxhash": ["libxxhash"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_google_googletest",
        libs = {":gtest": ["gmock"], ":gtest_main": ["gmock_main", "gmock"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_google_benchmark",
        flags = {":benchmark": ["-lpthread"], ":benchmark_main": ["-lbenchmark_main"]},
        libs = {":benchmark": ["benchmark"], ":benchmark_main": ["benchmark"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_sqlite_sqlite",
        libs = {":sqlite": ["sqlite3"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_google_highway",
        libs = {":hwy": ["libhwy"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_oneapi_onetbb",
        libs = {":tbb": ["tbb"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_facebook_rocksdb",
        libs = {":rocksdb": ["rocksdb"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_google_protobuf",
        files = {Label("//third_party/system:protobuf.BUILD"): "BUILD.bazel"},
        libs = {":protobuf": ["protobuf"]},
        links = {
            "bin/protoc": "/usr/bin/protoc",
            "google/protobuf": "/usr/include/google/protobuf",
        },
        owners = {"absl_": "@com_google_absl"},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_grpc_grpc",
        files = {
            Label("//third_party/system:grpc.BUILD"): "BUILD.bazel",
            Label("//third_party/system:grpc_compiler.BUILD"): "src/compiler/BUILD.bazel",
        },
        flags = {":grpc++_reflection": ["-lgrpc++_reflection"]},
        libs = {
            ":grpc++": ["grpc++"],
            ":grpc++_reflection": ["grpc++", "protobuf"],
        },
        links = {"src/compiler/bin/grpc_cpp_plugin": "/usr/bin/grpc_cpp_plugin"},
        owners = {
            "absl_": "@com_google_absl",
            "protobuf": "@com_google_protobuf",
        },
    )

    # OpenSSL under the name that gRPC's own build gives its TLS library.
    _maybe(
        pkg_config_repository,
        name = "boringssl",
        libs = {":crypto": ["libcrypto"], ":ssl": ["libssl", "libcrypto"]},
    )
    _maybe(
        pkg_config_repository,
        name = "com_github_jupp0r_prometheus_cpp",
        libs = {"core": ["prometheus-cpp-core"]},
    )

    # Headers only: below /usr/include, and nothing to link.
    _maybe(
        pkg_config_repository,
        name = "boost",
        libs = {":beast": []},
    )
