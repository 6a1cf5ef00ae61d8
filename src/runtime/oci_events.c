/* events: what a container uses, as one JSON object a line (runc's types/events.go), and when memory ran out. */
#include "runtime/oci.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

/* --- writing -------------------------------------------------------------------------------------- */

/* An object under way; its first failure is kept in *e. */
struct writer {
	struct buf *b;
	const struct cgroup_layout *l;
	const char *cgroup;
	struct cgroup_text text;
	struct err *e;
	bool failed;
};

static PRINTF_LIKE(2, 3) void put(struct writer *w, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	w->failed = w->failed || buf_addz(w->b, text, w->e) < 0;
}

/* A member; a comma before it unless it is the first. */
static void key(struct writer *w, const char *name)
{
	char last = w->b->len ? w->b->p[w->b->len - 1] : '{';

	put(w, "%s\"%s\":", last == '{' || last == '[' ? "" : ",", name);
}

static void put_number(struct writer *w, const char *name, uint64_t v)
{
	key(w, name);
	put(w, "%llu", (unsigned long long)v);
}

/* Left out where it is 0, as runc's. */
static void put_some(struct writer *w, const char *name, uint64_t v)
{
	if (v)
		put_number(w, name, v);
}

static bool get(struct writer *w, enum cgroup_controller c, const char *file)
{
	struct err ignored;

	return w->l->of[c] >= 0 && cgroup_read(w->l, c, w->cgroup, file, &w->text, &ignored) == 0;
}

static uint64_t get_number(struct writer *w, enum cgroup_controller c, const char *file)
{
	if (!get(w, c, file))
		return 0;
	return starts_with(w->text.p, "max") ? UINT64_MAX : strtoull(w->text.p, NULL, 10);
}

static bool on_v2(const struct writer *w, enum cgroup_controller c)
{
	return w->l->of[c] >= 0 && w->l->of[c] == w->l->of[CGROUP_UNIFIED];
}

/* "key value" lines: the value of one key. */
static uint64_t line_value(const struct cgroup_text *text, const char *name)
{
	struct str rest = { text->p, text->len };

	while (rest.p) {
		struct str value = str_cut(&rest, '\n'), word = str_cut(&value, ' ');

		if (str_eqz(word, name) && value.p)
			return strtoull(value.p, NULL, 10);
	}
	return 0;
}

static void put_psi(struct writer *w, enum cgroup_controller c, const char *file)
{
	struct str rest;
	bool first = true;

	if (!on_v2(w, c) || !get(w, c, file))
		return;
	key(w, "psi");
	put(w, "{");
	for (rest = (struct str){ w->text.p, w->text.len }; rest.p;) {
		struct str line = str_cut(&rest, '\n');
		double ten, sixty, three;
		unsigned long long total;
		char kind[8], copy[200];

		(void)snprintf(copy, sizeof(copy), "%.*s", STR_ARG(line));
		if (sscanf(copy, "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", kind, &ten, &sixty, &three, &total) != 5)
			continue;
		put(w, "%s\"%s\":{\"avg10\":%.15g,\"avg60\":%.15g,\"avg300\":%.15g,\"total\":%llu}", first ? "" : ",", kind, ten,
		    sixty, three, total);
		first = false;
	}
	put(w, "}");
}

/* --- cpu ------------------------------------------------------------------------------------------ */

static void put_words(struct writer *w, const char *name, int column)
{
	struct str rest = { w->text.p, w->text.len };
	bool title = column > 0;

	key(w, name);
	put(w, "[");
	if (!column) {
		for (bool first = true; rest.p; first = false) {
			struct str word = str_cut(&rest, ' ');

			if (word.len)
				put(w, "%s%.*s", first ? "" : ",", STR_ARG(str_trim(word)));
		}
	}
	/* "cpu user system" and a line a CPU. */
	for (bool first = true; column && rest.p;) {
		struct str line = str_cut(&rest, '\n'), word = { 0 };

		for (int i = 0; i <= column; i++)
			word = str_cut(&line, ' ');
		if (!title && word.len) {
			put(w, "%s%.*s", first ? "" : ",", STR_ARG(word));
			first = false;
		}
		title = false;
	}
	put(w, "]");
}

static void put_cpu(struct writer *w, const struct cgroup_stats *s)
{
	key(w, "cpu");
	put(w, "{");
	key(w, "usage");
	put(w, "{");
	put_some(w, "total", s->cpu.usage_ns);
	if (!on_v2(w, CGROUP_CPUACCT) && get(w, CGROUP_CPUACCT, "cpuacct.usage_percpu"))
		put_words(w, "percpu", 0);
	if (!on_v2(w, CGROUP_CPUACCT) && get(w, CGROUP_CPUACCT, "cpuacct.usage_all")) {
		put_words(w, "percpu_kernel", 2);
		put_words(w, "percpu_user", 1);
	}
	put_number(w, "kernel", s->cpu.system_ns);
	put_number(w, "user", s->cpu.user_ns);
	put(w, "}");
	if (s->cpu.periods) {
		key(w, "throttling");
		put(w, "{");
		put_number(w, "periods", s->cpu.periods);
		put_some(w, "throttledPeriods", s->cpu.throttled_periods);
		put_some(w, "throttledTime", s->cpu.throttled_ns);
		put(w, "}");
	}
	put_psi(w, CGROUP_CPU, "cpu.pressure");
	put(w, "}");
}

/* "0-2,5" as the numbers. */
static void put_list(struct writer *w, const char *name, const char *file)
{
	const char *p = w->text.p;
	bool first = true;

	if (!get(w, CGROUP_CPUSET, file) || !w->text.len)
		return;
	key(w, name);
	put(w, "[");
	while (*p >= '0' && *p <= '9') {
		char *end;
		unsigned long from = strtoul(p, &end, 10), to = *end == '-' ? strtoul(end + 1, &end, 10) : from;

		for (; from <= to && to < 65536; from++, first = false)
			put(w, "%s%lu", first ? "" : ",", from);
		p = *end == ',' ? end + 1 : end;
	}
	put(w, "]");
}

static void put_cpuset(struct writer *w)
{
	static const char *const flags[] = {
		"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
		"memory_pressure", "sched_load_balance", "sched_relax_domain_level"
	};
	bool v1 = w->l->of[CGROUP_CPUSET] >= 0 && !on_v2(w, CGROUP_CPUSET);

	key(w, "cpuset");
	put(w, "{");
	if (v1)
		put_list(w, "cpus", "cpuset.cpus");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char file[64];

		(void)snprintf(file, sizeof(file), "cpuset.%s", flags[i]);
		key(w, flags[i]);
		put(w, "%s", v1 && get(w, CGROUP_CPUSET, file) ? w->text.p : "0");
		if (i == 0 && v1)
			put_list(w, "mems", "cpuset.mems");
	}
	put(w, "}");
}

/* --- memory --------------------------------------------------------------------------------------- */

static void put_entry(struct writer *w, const char *name, const uint64_t v[4])
{
	if (!v[0] && !v[1] && !v[2] && !v[3])
		return;
	key(w, name);
	put(w, "{");
	put_number(w, "limit", v[0]);
	put_some(w, "usage", v[1]);
	put_some(w, "max", v[2]);
	put_number(w, "failcnt", v[3]);
	put(w, "}");
}

static void put_entry_v1(struct writer *w, const char *name, const char *kind)
{
	static const char *const files[] = { "limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt" };
	uint64_t v[4];

	for (int i = 0; i < 4; i++) {
		char file[64];

		(void)snprintf(file, sizeof(file), "memory.%s%s", kind, files[i]);
		v[i] = get_number(w, CGROUP_MEMORY, file);
	}
	put_entry(w, name, v);
}

static void put_raw(struct writer *w)
{
	struct str rest = { w->text.p, w->text.len };

	key(w, "raw");
	put(w, "{");
	while (rest.p) {
		struct str value = str_cut(&rest, '\n'), word = str_cut(&value, ' ');
		char name[80];

		(void)snprintf(name, sizeof(name), "%.*s", STR_ARG(word));
		if (value.len)
			put_number(w, name, strtoull(value.p, NULL, 10));
	}
	put(w, "}");
}

static void put_memory_v2(struct writer *w)
{
	uint64_t usage[4] = { get_number(w, CGROUP_MEMORY, "memory.max"), get_number(w, CGROUP_MEMORY, "memory.current"),
			      get_number(w, CGROUP_MEMORY, "memory.peak"), 0 };
	uint64_t swap[4] = { 0 };

	put_entry(w, "usage", usage);
	if (!get(w, CGROUP_MEMORY, "memory.swap.current"))
		return;
	/* Both together, as v1 counts. */
	swap[0] = get_number(w, CGROUP_MEMORY, "memory.swap.max");
	swap[0] = swap[0] > UINT64_MAX - usage[0] ? UINT64_MAX : swap[0] + usage[0];
	swap[1] = get_number(w, CGROUP_MEMORY, "memory.swap.current") + usage[1];
	put_entry(w, "swap", swap);
}

static void put_memory(struct writer *w)
{
	bool v2 = on_v2(w, CGROUP_MEMORY), stat;

	key(w, "memory");
	put(w, "{");
	stat = get(w, CGROUP_MEMORY, "memory.stat");
	if (stat)
		put_some(w, "cache", line_value(&w->text, v2 ? "file" : "cache"));
	if (v2) {
		put_memory_v2(w);
	} else {
		put_entry_v1(w, "usage", "");
		put_entry_v1(w, "swap", "memsw.");
		put_entry_v1(w, "kernel", "kmem.");
		put_entry_v1(w, "kernelTCP", "kmem.tcp.");
	}
	if (stat && get(w, CGROUP_MEMORY, "memory.stat"))
		put_raw(w);
	put_psi(w, CGROUP_MEMORY, "memory.pressure");
	put(w, "}");
}

/* --- pids, block I/O, huge pages ------------------------------------------------------------------ */

static void put_pids(struct writer *w, const struct cgroup_stats *s)
{
	key(w, "pids");
	put(w, "{");
	put_some(w, "current", s->pids.current);
	put_some(w, "limit", s->pids.limit == UINT64_MAX ? 0 : s->pids.limit);
	put(w, "}");
}

static void put_io_entry(struct writer *w, unsigned long major, unsigned long minor, const char *op, uint64_t value)
{
	if (w->b->p[w->b->len - 1] == '}')
		put(w, ",");
	put(w, "{");
	put_some(w, "major", major);
	put_some(w, "minor", minor);
	key(w, "op");
	put(w, "\"%s\"", op);
	put_some(w, "value", value);
	put(w, "}");
}

/* v1: "8:0 Read 4096", and a total that names no device. */
static void put_blkio_v1(struct writer *w, const char *name, const char *const *files)
{
	struct str rest = { 0 };

	for (; !rest.len && *files; files++)
		if (get(w, CGROUP_BLKIO, *files) && strchr(w->text.p, ':'))
			rest = (struct str){ w->text.p, w->text.len };
	if (!rest.len)
		return;
	key(w, name);
	put(w, "[");
	while (rest.p) {
		struct str line = str_cut(&rest, '\n');
		unsigned long major, minor;
		unsigned long long value;
		char copy[200], op[20];

		(void)snprintf(copy, sizeof(copy), "%.*s", STR_ARG(line));
		if (sscanf(copy, "%lu:%lu %19s %llu", &major, &minor, op, &value) == 4)
			put_io_entry(w, major, minor, op, value);
	}
	put(w, "]");
}

/* v2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6". */
static void put_io_v2(struct writer *w, const char *name, const char *const ops[3][2])
{
	struct str rest;

	if (!get(w, CGROUP_BLKIO, "io.stat") || !w->text.len)
		return;
	key(w, name);
	put(w, "[");
	for (rest = (struct str){ w->text.p, w->text.len }; rest.p;) {
		struct str line = str_cut(&rest, '\n');
		unsigned long major, minor;
		char copy[400];

		(void)snprintf(copy, sizeof(copy), "%.*s", STR_ARG(line));
		if (sscanf(copy, "%lu:%lu", &major, &minor) != 2)
			continue;
		for (int i = 0; i < 3; i++) {
			const char *at = strstr(copy, ops[i][0]);

			if (at)
				put_io_entry(w, major, minor, ops[i][1], strtoull(at + strlen(ops[i][0]), NULL, 10));
		}
	}
	put(w, "]");
}

static void put_block_io(struct writer *w)
{
	static const char *const bytes_v2[3][2] = { { " rbytes=", "Read" }, { " wbytes=", "Write" }, { " dbytes=", "Discard" } };
	static const char *const ios_v2[3][2] = { { " rios=", "Read" }, { " wios=", "Write" }, { " dios=", "Discard" } };
	static const char *const bytes[] = { "blkio.bfq.io_service_bytes_recursive",
					     "blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes", NULL };
	static const char *const ios[] = { "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive",
					   "blkio.throttle.io_serviced", NULL };

	key(w, "blkio");
	put(w, "{");
	if (on_v2(w, CGROUP_BLKIO)) {
		put_io_v2(w, "ioServiceBytesRecursive", bytes_v2);
		put_io_v2(w, "ioServicedRecursive", ios_v2);
		put_psi(w, CGROUP_BLKIO, "io.pressure");
	} else {
		put_blkio_v1(w, "ioServiceBytesRecursive", bytes);
		put_blkio_v1(w, "ioServicedRecursive", ios);
	}
	put(w, "}");
}

static void put_hugetlb_of(struct writer *w, const char *size)
{
	bool v2 = on_v2(w, CGROUP_HUGETLB);
	char file[100];
	uint64_t usage, max = 0, failures;

	(void)snprintf(file, sizeof(file), "hugetlb.%s.%s", size, v2 ? "current" : "usage_in_bytes");
	if (!get(w, CGROUP_HUGETLB, file))
		return;
	usage = strtoull(w->text.p, NULL, 10);
	(void)snprintf(file, sizeof(file), "hugetlb.%s.%s", size, v2 ? "events" : "failcnt");
	failures = get(w, CGROUP_HUGETLB, file) ? (v2 ? line_value(&w->text, "max") : strtoull(w->text.p, NULL, 10)) : 0;
	if (!v2) {
		(void)snprintf(file, sizeof(file), "hugetlb.%s.max_usage_in_bytes", size);
		max = get_number(w, CGROUP_HUGETLB, file);
	}
	key(w, size);
	put(w, "{");
	put_some(w, "usage", usage);
	put_some(w, "max", max);
	put_number(w, "failcnt", failures);
	put(w, "}");
}

static void put_hugetlb(struct writer *w)
{
	DIR *sizes = w->l->of[CGROUP_HUGETLB] >= 0 ? opendir("/sys/kernel/mm/hugepages") : NULL;
	struct dirent *d;

	key(w, "hugetlb");
	put(w, "{");
	while (sizes && (d = readdir(sizes))) {
		unsigned long kb;
		char name[32];

		if (sscanf(d->d_name, "hugepages-%lukB", &kb) != 1)
			continue;
		(void)snprintf(name, sizeof(name), "%lu%s", kb >= 1 << 20 ? kb >> 20 : kb >= 1 << 10 ? kb >> 10 : kb,
			       kb >= 1 << 20 ? "GB" : kb >= 1 << 10 ? "MB" : "KB");
		put_hugetlb_of(w, name);
	}
	if (sizes)
		(void)closedir(sizes);
	put(w, "}");
}

/* --- the command ---------------------------------------------------------------------------------- */

static int print_stats(struct oci_app *app, const struct oci_record *r, struct err *e)
{
	auto_buf b = BUF(1 << 20);
	struct writer w = { .b = &b, .l = &app->rt.cgroups, .cgroup = r->cgroup, .e = e };
	struct cgroup_stats s;

	if (cgroup_stats(w.l, w.cgroup, &s, e) < 0)
		return -1;
	put(&w, "{\"type\":\"stats\",\"id\":");
	w.failed = w.failed || json_write_text(&b, r->id, e) < 0;
	key(&w, "data");
	put(&w, "{");
	put_cpu(&w, &s);
	put_cpuset(&w);
	put_memory(&w);
	put_pids(&w, &s);
	put_block_io(&w);
	put_hugetlb(&w);
	key(&w, "intel_rdt");
	put(&w, "{}");
	key(&w, "network_interfaces");
	put(&w, "null}}\n");
	return w.failed ? -1 : fd_write_all(1, b.p, b.len, e);
}

static int oom_watch_v2(const struct cgroup_layout *l, const char *folder, struct err *e)
{
	auto_fd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s/memory.events", l->h[l->of[CGROUP_MEMORY]].root_fd, folder);
	if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return err_sys(e, errno, "cgroup %s: watch memory.events", folder);
	return fd_take(&fd);
}

static int oom_watch_v1(const struct cgroup_layout *l, const char *folder, struct err *e)
{
	auto_fd int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), control = -1;
	char path[PATH_MAX], text[40];

	(void)snprintf(path, sizeof(path), "%s/memory.oom_control", folder);
	control = fd_open(l->h[l->of[CGROUP_MEMORY]].root_fd, path, O_RDONLY, e);
	if (control < 0)
		return err_in(e, "cgroup %s", folder);
	(void)snprintf(text, sizeof(text), "%d %d", fd, control);
	if (fd < 0 || cgroup_write(l, CGROUP_MEMORY, folder, "cgroup.event_control", text, e) < 0)
		return -1;
	return fd_take(&fd);
}

/* A kernel without a memory controller runs out of memory in no cgroup: -1 without an error. */
static int oom_watch(const struct cgroup_layout *l, const char *folder, int *out, struct err *e)
{
	*out = -1;
	if (l->of[CGROUP_MEMORY] < 0)
		return 0;
	*out = (l->of[CGROUP_MEMORY] == l->of[CGROUP_UNIFIED] ? oom_watch_v2 : oom_watch_v1)(l, folder, e);
	return *out;
}

enum { LOOK_MS = 1000 }; /* for kernels that count and tell nobody */

static int follow(struct oci_app *app, const struct oci_record *r, int pidfd, int64_t interval_ns, struct err *e)
{
	auto_fd int oom = -1;
	uint64_t kills = 0, now;
	int64_t next = clock_mono_ns() + interval_ns;
	struct err ignored;
	char events[4096];

	if (oom_watch(&app->rt.cgroups, r->cgroup, &oom, e) < 0 && app->rt.cgroups.of[CGROUP_MEMORY] >= 0)
		return -1;
	(void)cgroup_oom_kills(&app->rt.cgroups, r->cgroup, &kills, &ignored); /* none where it cannot be read */
	for (;;) {
		struct pollfd fds[2] = { { pidfd, POLLIN, 0 }, { oom, POLLIN, 0 } };
		int64_t left = next - clock_mono_ns();

		if (poll(fds, 2, left <= 0 ? 0 : (int)MIN(left / 1000000 + 1, LOOK_MS)) < 0 && errno != EINTR)
			return err_sys(e, errno, "poll");
		if (fds[1].revents)
			(void)read(oom, events, sizeof(events)); /* what happened is counted below */
		if (cgroup_oom_kills(&app->rt.cgroups, r->cgroup, &now, &ignored) == 0 && now > kills) {
			(void)printf("{\"type\":\"oom\",\"id\":\"%s\"}\n", r->id);
			kills = now;
		}
		if (fds[0].revents)
			break;
		(void)fflush(stdout);
		if (clock_mono_ns() < next)
			continue;
		if (print_stats(app, r, &ignored) < 0)
			log_error("%s", ignored.msg);
		next = clock_mono_ns() + interval_ns;
	}
	return 0;
}

int oci_events_command(struct oci_app *app, char *const *argv, struct err *e)
{
	int64_t interval = 5 * NS_PER_S;
	bool stats = false;
	const struct opt opts[] = {
		{ OPT_DURATION, 0, "interval", &interval, "DURATION", "between two lines, 5s" },
		{ OPT_FLAG, 0, "stats", &stats, NULL, "one line only" },
		{ 0 },
	};
	auto_fd int pidfd = -1;
	struct oci_record r;
	char **words;

	if (oci_options(app, opts, 0, argv, &words, e) < 0)
		return -1;
	if (strv_len(words) != 1)
		return err_set(e, ERR_INVALID, "events: exactly one container id is needed");
	if (interval <= 0)
		return err_set(e, ERR_INVALID, "duration interval must be greater than 0");
	if (oci_record_load(app, words[0], &r, e) < 0 || oci_need_cgroup(&r, "events", e) < 0 || oci_runtime(app, e) < 0)
		return -1;
	if (oci_record_status(app, &r, &pidfd) == OCI_STOPPED)
		return err_set(e, ERR_STATE, "container with id %s is not running", r.id);
	return stats ? print_stats(app, &r, e) : follow(app, &r, pidfd, interval, e);
}
