#include "world.h"

#include "fakes.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- a model in a folder of its own ------------------------------------------------------------------------- */

static struct pod_settings settings_of(struct world *w)
{
	return (struct pod_settings){
		.root = w->root, .run = arena_printf(&w->arena, "%s/run", w->root),
		.netns_dir = arena_printf(&w->arena, "%s/netns", w->root), .monitor_path = "knarr-pod",
		.create_limit_ns = 20 * NS_PER_S, .collect_limit_ns = 300 * NS_PER_MS,
	};
}

void world_start(struct world *w)
{
	struct pod_settings s = settings_of(w);
	auto_call c;
	struct err e;

	assert_ok(catalog_open(arena_printf(&w->arena, "%s/catalog.db", w->root), &w->catalog, &e), e);
	assert_ok(pods_open(&s, w->catalog, (struct images *)w->root, NULL, &w->pods, &e), e);
	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pods_wait_ready(w->pods, &c, &e), e);
}

void world_stop(struct world *w)
{
	pods_close(w->pods);
	catalog_close(w->catalog);
	w->pods = NULL;
}

void world_begin(struct world *w)
{
	*w = (struct world){ 0 };
	fakes_reset();
	(void)snprintf(w->root, sizeof(w->root), "/tmp/knarr-test-%d-XXXXXX", getpid());
	assert_non_null(mkdtemp(w->root));
	world_start(w);
}

void world_end(struct world *w)
{
	struct err e;

	if (w->pods)
		world_stop(w);
	fake_monitors_die();
	assert_ok(fs_remove_tree(AT_FDCWD, w->root, &e), e); /* a mount that was left would keep it */
	arena_free(&w->arena);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

struct pod_config pod_named(const char *name)
{
	return (struct pod_config){ .name = (char *)name, .namespace_ = "default", .uid = "u-1", .hostname = "web" };
}

struct container_config container_named(const char *name)
{
	return (struct container_config){ .name = (char *)name, .image = "busybox" };
}

const char *world_run(struct world *w, const struct pod_config *config)
{
	auto_call c;
	const char *id;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pod_run(w->pods, &c, POD_OWNER_KUBELET, config, &id, &e), e);
	return arena_strdup(&w->arena, id);
}

const char *world_create(struct world *w, const char *pod, const char *name)
{
	const struct container_config config = container_named(name);
	auto_call c;
	const char *id;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(container_create(w->pods, &c, POD_OWNER_KUBELET, pod, &config, &id, &e), e);
	return arena_strdup(&w->arena, id);
}

void world_start_container(struct world *w, const char *id)
{
	auto_call c;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(container_start(w->pods, &c, POD_OWNER_KUBELET, id, &e), e);
}

void world_remove_pod(struct world *w, const char *pod)
{
	auto_call c;
	struct err e;

	call_begin(&c, clock_mono_ns() + 10 * NS_PER_S);
	assert_ok(pod_stop(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_stop(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_remove(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
	assert_ok(pod_remove(w->pods, &c, POD_OWNER_KUBELET, pod, &e), e);
}

size_t world_entries(struct world *w, const char *folder)
{
	DIR *d = opendir(arena_printf(&w->arena, "%s/%s", w->root, folder));
	size_t n = 0;

	for (struct dirent *x; d && (x = readdir(d));)
		n += x->d_name[0] != '.';
	if (d)
		(void)closedir(d);
	return n;
}

static int count_record(void *ctx, UNUSED const struct record *r, UNUSED struct err *e)
{
	++*(size_t *)ctx;
	return 0;
}

size_t world_records(struct world *w)
{
	size_t records = 0;
	struct err e;

	assert_ok(catalog_each(w->catalog, CATALOG_PODS, count_record, &records, &e), e);
	assert_ok(catalog_each(w->catalog, CATALOG_CONTAINERS, count_record, &records, &e), e);
	return records;
}

void assert_nothing_remains(struct world *w)
{
	assert_int_equal(world_records(w), 0);
	assert_int_equal(fakes.monitors, 0);
	assert_int_equal(fakes.networks, 0);
	assert_int_equal(fakes.snapshots, 0);
	assert_int_equal(fakes.cgroups, 0);
	assert_int_equal(world_entries(w, "netns"), 0);
	assert_int_equal(world_entries(w, "run/pods"), 0);
	assert_int_equal(world_entries(w, "pods"), 0);
	assert_int_equal(world_entries(w, "containers"), 0);
}

size_t world_listed_pods(struct world *w, enum pod_owner owner)
{
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	struct err e;

	assert_ok(pod_list(w->pods, &a, owner, NULL, &v, &e), e);
	return v.n;
}

enum pod_state world_pod_state(struct world *w, const char *id)
{
	auto_arena a = { 0 };
	auto_pod_views v = { 0 };
	struct err e;

	assert_ok(pod_status(w->pods, &a, POD_OWNER_KUBELET, id, &v, &e), e);
	return v.v[0].state;
}

/* Waits for the state, and returns what the container is then. The view is only good for its values. */
struct container_view world_await(struct world *w, const char *id, enum container_state state)
{
	struct container_view out;
	struct err e;

	for (int i = 0; i < 500; i++) {
		auto_container_views v = { 0 };

		assert_ok(container_status(w->pods, &w->arena, POD_OWNER_KUBELET, id, &v, &e), e);
		out = v.v[0];
		out.reason = arena_strdup(&w->arena, out.reason);
		out.message = arena_strdup(&w->arena, out.message);
		if (out.state == state)
			return out;
		(void)usleep(10000);
	}
	fail_msg("container %s is in state %d, wanted %d", id, out.state, state);
	return out;
}
