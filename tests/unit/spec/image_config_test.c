#include "test.h"

#include "spec/image_config.h"

#define ID "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int parse(struct arena *a, const char *text, struct image_config *c, struct err *e)
{
	return image_config_parse(a, str_of(text), c, e);
}

TEST(an_image_configuration_is_read_whole)
{
	static const char text[] =
		"{\"architecture\":\"arm\",\"os\":\"linux\",\"variant\":\"v7\",\"created\":\"2024-01-01T00:00:00Z\","
		"\"author\":\"me\",\"config\":{\"User\":\"1000:1000\",\"Env\":[\"PATH=/bin\",\"A=b=c\"],"
		"\"Entrypoint\":[\"/init\"],\"Cmd\":[\"a\",\"b\"],\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGINT\","
		"\"Volumes\":{\"/data\":{},\"/logs\":{}},\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"k\":\"v\"},"
		"\"Healthcheck\":{\"Test\":[\"NONE\"]}},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" ID "\"]},"
		"\"history\":[{\"created_by\":\"RUN x\"},{\"empty_layer\":true}],\"strange\":[1,2]}";
	auto_arena a = { 0 };
	const struct image_history *h;
	struct image_config c;
	struct err e;

	assert_ok(parse(&a, text, &c, &e), e);
	assert_string_equal(c.platform.variant, "v7");
	assert_string_equal(c.user, "1000:1000");
	assert_string_equal(c.env[1], "A=b=c");
	assert_string_equal(c.entrypoint[0], "/init");
	assert_string_equal(c.cmd[1], "b");
	assert_string_equal(c.workdir, "/w");
	assert_string_equal(c.stop_signal, "SIGINT");
	assert_string_equal(c.volumes[0], "/data");
	assert_string_equal(c.volumes[1], "/logs");
	assert_null(c.volumes[2]);
	assert_string_equal(c.exposed_ports[0], "80/tcp");
	assert_string_equal(json_map_get(&c.labels, "k"), "v");
	assert_string_equal(c.diff_ids[0], ID);
	assert_int_equal(c.history.count, 2);
	h = c.history.p;
	assert_true(h[1].empty_layer);
}

TEST(what_is_absent_is_null)
{
	auto_arena a = { 0 };
	struct image_config c;
	struct err e;

	assert_ok(parse(&a, "{\"config\":{\"User\":\"\",\"Volumes\":null,\"Env\":null},"
			    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":null}}", &c, &e), e);
	assert_null(c.user);
	assert_null(c.volumes);
	assert_null(c.env);
	assert_non_null(c.diff_ids);
	assert_null(c.diff_ids[0]);
	assert_ok(parse(&a, "{\"rootfs\":{\"type\":\"layers\"}}", &c, &e), e);
}

TEST(a_wrong_configuration_is_refused)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "", "line 1" },
		{ "[]", "image configuration" },
		{ "{}", "rootfs" },
		{ "{\"rootfs\":{\"type\":\"files\",\"diff_ids\":[]}}", "not \"layers\"" },
		{ "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:12\"]}}", "diff_ids[0]" },
		{ "{\"rootfs\":{\"type\":\"layers\"},\"config\":{\"Env\":\"A=b\"}}", "Env" },
		{ "{\"rootfs\":{\"type\":\"layers\"},\"config\":{\"Env\":[\"=b\"]}}", "Env[0]" },
		{ "{\"rootfs\":{\"type\":\"layers\"},\"config\":{\"Volumes\":[\"/a\"]}}", "Volumes" },
	};
	auto_arena a = { 0 };
	struct image_config c;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_err(parse(&a, bad[i].text, &c, &e), e, ERR_INVALID, bad[i].says);
}
