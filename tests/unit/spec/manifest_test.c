#include "test.h"

#include "base/fs.h"
#include "spec/manifest.h"

#include <dirent.h>
#include <fcntl.h>

#define ID(c) "sha256:" c "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MANIFEST(type)                                                                            \
	"{\"schemaVersion\":2," type "\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG "\",\"digest\":\"" ID( \
		"0") "\",\"size\":2},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1."       \
		     "tar+gzip\",\"digest\":\"" ID("1") "\",\"size\":100}]}"

static int parse(struct arena *a, const char *text, const char *type, struct manifest *m, struct err *e)
{
	return manifest_parse(a, str_of(text), type, m, e);
}

TEST(a_manifest_is_read)
{
	auto_arena a = { 0 };
	struct manifest m;
	struct err e;

	assert_ok(parse(&a, MANIFEST(""), MEDIA_OCI_MANIFEST "; charset=utf-8", &m, &e), e);
	assert_int_equal(m.kind, MANIFEST_IMAGE);
	assert_string_equal(m.media_type, MEDIA_OCI_MANIFEST);
	assert_string_equal(m.config.digest, ID("0"));
	assert_int_equal(m.nlayers, 1);
	assert_int_equal(m.layers[0].size, 100);
	assert_ok(parse(&a, MANIFEST("\"mediaType\":\"" MEDIA_DOCKER_MANIFEST "\","), NULL, &m, &e), e);
	assert_string_equal(m.media_type, MEDIA_DOCKER_MANIFEST);
}

#define ENTRY(id, os, arch, variant)                                                             \
	"{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" ID(id) "\",\"size\":7,\"platform\":" \
	"{\"os\":\"" os "\",\"architecture\":\"" arch "\",\"variant\":\"" variant "\"}}"

TEST(an_index_gives_the_manifest_for_the_machine)
{
	static const char text[] =
		"{\"schemaVersion\":2,\"manifests\":[" ENTRY("0", "linux", "arm", "v6") "," ENTRY(
			"1", "linux", "arm", "v7") "," ENTRY("2", "linux", "amd64", "") "," ENTRY(
			"3", "linux", "amd64", "") "," ENTRY("4", "unknown", "unknown", "") "]}";
	auto_arena a = { 0 };
	const struct descriptor *d;
	struct platform host;
	struct manifest m;
	struct err e;

	assert_ok(parse(&a, text, MEDIA_OCI_INDEX, &m, &e), e);
	assert_int_equal(m.kind, MANIFEST_INDEX);
	assert_ok(platform_parse(&a, "linux/amd64/v3", &host, &e), e);
	assert_ok(manifest_choose(&a, &m, &host, &d, &e), e);
	assert_string_equal(d->digest, ID("2"));
	assert_ok(platform_parse(&a, "linux/arm/v7", &host, &e), e);
	assert_ok(manifest_choose(&a, &m, &host, &d, &e), e);
	assert_string_equal(d->digest, ID("1"));
	assert_ok(platform_parse(&a, "linux/s390x", &host, &e), e);
	assert_err(manifest_choose(&a, &m, &host, &d, &e), e, ERR_NOT_FOUND, "linux/arm/v6, linux/arm/v7");
}

TEST(schema_1_is_refused_with_a_sentence)
{
	auto_arena a = { 0 };
	struct manifest m;
	struct err e;

	assert_err(parse(&a, "{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, &m, &e), e, ERR_UNIMPLEMENTED,
		   "schema 1");
	assert_err(parse(&a, "{\"schemaVersion\":2,\"config\":null}",
			 "application/vnd.docker.distribution.manifest.v1+prettyjws", &m, &e), e,
		   ERR_UNIMPLEMENTED, "schema 1");
}

TEST(a_document_may_not_contradict_its_name)
{
	auto_arena a = { 0 };
	struct manifest m;
	struct err e;

	assert_err(parse(&a, MANIFEST("\"mediaType\":\"" MEDIA_OCI_MANIFEST "\","), MEDIA_DOCKER_MANIFEST, &m,
			 &e), e, ERR_INVALID, "calls itself");
	assert_err(parse(&a, MANIFEST(""), MEDIA_OCI_INDEX, &m, &e), e, ERR_INVALID, "no manifests");
	assert_err(parse(&a, "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", NULL, &m, &e), e,
		   ERR_INVALID, "at once");
}

/* Each file of tests/data/manifest/bad is refused, whatever it is called. */
TEST(bad_manifests_are_refused)
{
	DIR *dir = opendir(TEST_DATA "/manifest/bad");
	struct dirent *file;

	assert_non_null(dir);
	while ((file = readdir(dir))) {
		auto_arena a = { 0 };
		struct manifest m;
		struct str text;
		struct err e;

		if (file->d_name[0] == '.')
			continue;
		assert_ok(fs_read_file(&a, dirfd(dir), file->d_name, 8 << 20, &text, &e), e);
		if (manifest_parse(&a, text, NULL, &m, &e) == 0)
			fail_msg("%s was taken", file->d_name);
	}
	(void)closedir(dir);
}
