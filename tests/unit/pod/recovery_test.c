#include "fakes.h"
#include "world.h"

#include "test.h"

/* --- restarts ---------------------------------------------------------------------------------------------------- */

TEST(a_restart_adopts_what_runs_and_hears_what_ended)
{
	const struct pod_config config = pod_named("p");
	struct container_view v;
	struct world w;
	const char *pod, *runs, *ended, *created;

	world_begin(&w);
	pod = world_run(&w, &config);
	runs = world_create(&w, pod, "runs");
	ended = world_create(&w, pod, "ended");
	created = world_create(&w, pod, "created");
	world_start_container(&w, runs);
	world_start_container(&w, ended);
	world_stop(&w);
	fake_container_exits(ended, 7, false);
	world_start(&w);
	assert_int_equal(world_pod_state(&w, pod), POD_READY);
	v = world_await(&w, ended, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 7);
	(void)world_await(&w, runs, CONTAINER_RUNNING);
	(void)world_await(&w, created, CONTAINER_CREATED);
	world_start_container(&w, created);
	fake_container_exits(runs, 1, false);
	assert_int_equal(world_await(&w, runs, CONTAINER_EXITED).exit_code, 1);
	world_remove_pod(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(a_restart_finds_dead_monitors_and_their_pods_not_ready)
{
	const struct pod_config config = pod_named("p");
	struct world w;
	const char *pod, *k;

	world_begin(&w);
	pod = world_run(&w, &config);
	k = world_create(&w, pod, "c");
	world_start_container(&w, k);
	world_stop(&w);
	fake_monitors_die();
	world_start(&w);
	assert_int_equal(world_pod_state(&w, pod), POD_STOPPED);
	assert_int_equal(world_await(&w, k, CONTAINER_EXITED).exit_code, 137);
	world_remove_pod(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}

TEST(after_a_reboot_all_is_stopped_and_old_exits_keep_their_code)
{
	const struct record boot = { .id = "boot_id", .body = STR("{\"version\":1,\"boot_id\":\"another\"}") };
	const struct pod_config config = pod_named("p");
	struct container_view v;
	struct world w;
	const char *pod, *runs, *ended;
	struct err e;

	world_begin(&w);
	pod = world_run(&w, &config);
	runs = world_create(&w, pod, "runs");
	ended = world_create(&w, pod, "ended");
	world_start_container(&w, runs);
	world_start_container(&w, ended);
	fake_container_exits(ended, 9, false);
	(void)world_await(&w, ended, CONTAINER_EXITED);
	assert_ok(catalog_put(w.catalog, CATALOG_META, &boot, &e), e);
	world_stop(&w);
	fake_monitors_die();
	world_start(&w);
	assert_int_equal(world_pod_state(&w, pod), POD_STOPPED);
	v = world_await(&w, runs, CONTAINER_EXITED);
	assert_int_equal(v.exit_code, 255);
	assert_string_equal(v.reason, "Unknown");
	assert_int_equal(world_await(&w, ended, CONTAINER_EXITED).exit_code, 9);
	world_remove_pod(&w, pod);
	assert_nothing_remains(&w);
	world_end(&w);
}
