#include "pod/config.h"

#include "test.h"

static struct container_config sample(struct arena *a)
{
	static char *command[] = { "sh", "-c", "", NULL };
	struct container_config c = {
		.name = "web", .attempt = 3, .image = "busybox",
		.command = command,
		.namespaces = { .pid = CONFIG_NS_CONTAINER },
		.privileged = true, .stop_signal = 10,
	};
	struct config_env *env = arena_newn0(a, struct config_env, 2);
	struct config_resources *r = arena_new0(a, struct config_resources);

	env[0] = (struct config_env){ "RAW", "\xff\xfe \"quoted\"\n" };
	env[1] = (struct config_env){ "EMPTY", "" };
	c.envs = (struct json_vec){ env, 2 };
	r->memory_bytes = 1 << 30;
	c.resources = r;
	c.run_as_user = arena_new0(a, int64_t);
	c.labels = (struct json_map){ arena_newn0(a, struct json_pair, 2), 2 };
	c.labels.p[0] = (struct json_pair){ "z", "first" };
	c.labels.p[1] = (struct json_pair){ "a", "" };
	return c;
}

static void assert_is_sample(const struct container_config *c)
{
	const struct config_env *env = c->envs.p;

	assert_string_equal(c->name, "web");
	assert_int_equal(c->attempt, 3);
	assert_int_equal(strv_len(c->command), 3);
	assert_string_equal(c->command[2], "");
	assert_int_equal(c->envs.count, 2);
	assert_string_equal(env[0].value, "\xff\xfe \"quoted\"\n");
	assert_int_equal(c->resources->memory_bytes, 1 << 30);
	assert_non_null(c->run_as_user);
	assert_int_equal(*c->run_as_user, 0);
	assert_null(c->run_as_group);
	assert_int_equal(c->namespaces.pid, CONFIG_NS_CONTAINER);
	assert_int_equal(c->labels.count, 2);
	assert_string_equal(c->labels.p[0].key, "z");
	assert_string_equal(c->labels.p[1].key, "a");
	assert_string_equal(c->labels.p[1].value, "");
}

TEST(config_comes_back_from_json_byte_for_byte)
{
	auto_arena a = { 0 };
	auto_buf b = BUF(1 << 20);
	struct container_config c = sample(&a), back = { 0 };
	struct err e;

	assert_ok(json_write(&b, container_config_fields, &c, &e), e);
	assert_ok(json_load(&a, buf_str(&b), container_config_fields, JSON_STRICT, &back, &e), e);
	assert_is_sample(&back);
}

TEST(config_copy_shares_nothing_with_the_original)
{
	auto_arena a = { 0 };
	struct container_config copy = { 0 };

	{
		auto_arena first = { 0 };
		struct container_config c = sample(&first);

		json_copy(&a, container_config_fields, &c, &copy);
	}
	assert_is_sample(&copy);
}

TEST(config_resources_merge_keeps_what_is_not_given)
{
	auto_arena a = { 0 };
	struct json_pair old_files[] = { { "memory.high", "1" }, { "cpu.idle", "0" } };
	struct json_pair new_files[] = { { "memory.high", "2" } };
	struct config_resources r = { .cpu_shares = 512, .memory_bytes = 100, .cpuset_cpus = "0-1",
				      .unified = { old_files, 2 } };
	struct config_resources change = { .memory_bytes = 200, .unified = { new_files, 1 } };

	config_resources_merge(&a, &r, &change);
	assert_int_equal(r.cpu_shares, 512);
	assert_int_equal(r.memory_bytes, 200);
	assert_string_equal(r.cpuset_cpus, "0-1");
	assert_int_equal(r.unified.count, 2);
	assert_string_equal(json_map_get(&r.unified, "memory.high"), "2");
	assert_string_equal(json_map_get(&r.unified, "cpu.idle"), "0");
}
