#include "runtime/oci.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"
#include "runtime/resources.h"

#include <fcntl.h>

/* All as text: an absent one changes nothing, whatever number it would be. */
struct update_options {
	const char *file, *cpus, *mems, *memory, *swap, *reservation, *kernel, *kernel_tcp;
	const char *quota, *period, *burst, *shares, *rt_runtime, *rt_period, *idle, *pids, *blkio;
	const char *l3, *bandwidth;
};

static int whole(struct arena *a, const char *text, const char *name, int64_t **out, struct err *e)
{
	if (!text)
		return 0;
	*out = arena_new0(a, int64_t);
	return str_to_i64(str_of(text), *out, e) < 0 ? err_in(e, "invalid value for %s", name) : 0;
}

static int natural(struct arena *a, const char *text, const char *name, uint64_t **out, struct err *e)
{
	int64_t *n = NULL;

	if (whole(a, text, name, &n, e) < 0)
		return -1;
	if (n && *n < 0)
		return err_set(e, ERR_INVALID, "invalid value for %s: \"%s\" is below 0", name, text);
	*out = (uint64_t *)n;
	return 0;
}

static int size(struct arena *a, const char *text, const char *name, int64_t **out, struct err *e)
{
	if (!text)
		return 0;
	*out = arena_new0(a, int64_t);
	if (streq(text, "-1"))
		**out = -1;
	else if (opt_parse_bytes(text, *out, e) < 0)
		return err_in(e, "invalid value for %s", name);
	return 0;
}

static int weight(struct arena *a, const char *text, uint32_t **out, struct err *e)
{
	uint64_t *n = NULL;

	if (natural(a, text, "blkio-weight", &n, e) < 0)
		return -1;
	if (n && *n && (*n < 10 || *n > 1000))
		return err_set(e, ERR_INVALID, "invalid value for blkio-weight: %s is not within 10 to 1000", text);
	if (n && *n) {
		*out = arena_new0(a, uint32_t);
		**out = (uint32_t)*n;
	}
	return 0;
}

static int from_options(struct arena *a, const struct update_options *o, struct oci_resources *r, struct err *e)
{
	struct oci_memory *m = arena_new0(a, struct oci_memory);
	struct oci_cpu *c = arena_new0(a, struct oci_cpu);

	r->memory = m;
	r->cpu = c;
	r->pids = arena_new0(a, struct oci_pids);
	r->block_io = arena_new0(a, struct oci_block_io);
	c->cpus = (char *)o->cpus;
	c->mems = (char *)o->mems;
	if (size(a, o->memory, "memory", &m->limit, e) < 0 || size(a, o->swap, "memory-swap", &m->swap, e) < 0 ||
	    size(a, o->reservation, "memory-reservation", &m->reservation, e) < 0 ||
	    size(a, o->kernel, "kernel-memory", &m->kernel, e) < 0 ||
	    size(a, o->kernel_tcp, "kernel-memory-tcp", &m->kernel_tcp, e) < 0)
		return -1;
	if (natural(a, o->shares, "cpu-share", &c->shares, e) < 0 || whole(a, o->quota, "cpu-quota", &c->quota, e) < 0 ||
	    natural(a, o->period, "cpu-period", &c->period, e) < 0 || natural(a, o->burst, "cpu-burst", &c->burst, e) < 0 ||
	    whole(a, o->rt_runtime, "cpu-rt-runtime", &c->realtime_runtime, e) < 0 ||
	    natural(a, o->rt_period, "cpu-rt-period", &c->realtime_period, e) < 0 ||
	    whole(a, o->idle, "cpu-idle", &c->idle, e) < 0)
		return -1;
	return whole(a, o->pids, "pids-limit", &r->pids->limit, e) < 0 ? -1 :
	       weight(a, o->blkio, &r->block_io->weight, e);
}

static int from_file(struct arena *a, const char *file, struct oci_resources *r, struct err *e)
{
	auto_buf in = BUF(1 << 20);
	struct str text;

	if (streq(file, "-")) {
		if (fd_read_to_end(0, &in, e) < 0)
			return err_in(e, "--resources: stdin");
		text = (struct str){ arena_strndup(a, buf_text(&in), in.len), in.len };
	} else if (fs_read_file(a, AT_FDCWD, file, 1 << 20, &text, e) < 0) {
		return err_in(e, "--resources");
	}
	if (oci_resources_read(a, text, r, e) < 0)
		return err_in(e, "--resources");
	/* As runc: rules for devices are the container's for life, whatever a document holds. */
	r->devices = (struct json_vec){ 0 };
	return 0;
}

static void parse_kernel_memory(const struct oci_resources *r)
{
	if (r->memory && (r->memory->kernel || r->memory->kernel_tcp))
		log_warn("kernel memory settings are ignored and will be removed");
	if (r->memory)
		r->memory->kernel = r->memory->kernel_tcp = NULL;
}

int oci_update_command(struct oci_app *app, char *const *argv, struct err *e)
{
	struct update_options o = { 0 };
	const struct opt opts[] = {
		{ OPT_STR, 'r', "resources", &o.file, "FILE", "the resources as JSON; - is stdin; other options are ignored" },
		{ OPT_STR, 0, "blkio-weight", &o.blkio, "N", "weight of block I/O, 10 to 1000" },
		{ OPT_STR, 0, "cpu-period", &o.period, "US", "the period of the quota" },
		{ OPT_STR, 0, "cpu-quota", &o.quota, "US", "CPU time a period, -1: no limit" },
		{ OPT_STR, 0, "cpu-burst", &o.burst, "US", "unused CPU time that may be used later" },
		{ OPT_STR, 0, "cpu-share", &o.shares, "N", "CPU shares" },
		{ OPT_STR, 0, "cpu-rt-period", &o.rt_period, "US", "the period of realtime tasks (cgroup v1)" },
		{ OPT_STR, 0, "cpu-rt-runtime", &o.rt_runtime, "US", "their CPU time a period" },
		{ OPT_STR, 0, "cpuset-cpus", &o.cpus, "LIST", "CPUs" },
		{ OPT_STR, 0, "cpuset-mems", &o.mems, "LIST", "memory nodes" },
		{ OPT_STR, 0, "cpu-idle", &o.idle, "0|1", "1: SCHED_IDLE for the whole group" },
		{ OPT_STR, 0, "memory", &o.memory, "BYTES", "memory limit, -1: none" },
		{ OPT_STR, 0, "memory-reservation", &o.reservation, "BYTES", "soft limit" },
		{ OPT_STR, 0, "memory-swap", &o.swap, "BYTES", "memory and swap, -1: no limit" },
		{ OPT_STR, 0, "kernel-memory", &o.kernel, "BYTES", "ignored" },
		{ OPT_STR, 0, "kernel-memory-tcp", &o.kernel_tcp, "BYTES", "ignored" },
		{ OPT_STR, 0, "pids-limit", &o.pids, "N", "most processes, -1: no limit" },
		{ OPT_STR, 0, "l3-cache-schema", &o.l3, "TEXT", "Intel RDT: L3 cache" },
		{ OPT_STR, 0, "mem-bw-schema", &o.bandwidth, "TEXT", "Intel RDT: memory bandwidth" },
		{ 0 },
	};
	struct oci_resources res = { 0 };
	enum oci_status status;
	struct oci_record r;
	char **words;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "update: exactly one container id is needed");
	if (oci_load_running(app, words[0], &r, &status, e) < 0 || oci_need_cgroup(&r, "update", e) < 0)
		return -1;
	if ((o.file ? from_file(&app->arena, o.file, &res, e) : from_options(&app->arena, &o, &res, e)) < 0)
		return -1;
	parse_kernel_memory(&res);
	/* No limit of memory means none of swap: else the kernel's old swap limit would stand below it. */
	if (res.memory && res.memory->limit && *res.memory->limit == -1 && !res.memory->swap)
		res.memory->swap = res.memory->limit;
	if (oci_resources_update(app, &r, &res, e) < 0)
		return -1;
	return o.l3 || o.bandwidth ? oci_rdt_update(app, &r, o.l3, o.bandwidth, e) : 0;
}
