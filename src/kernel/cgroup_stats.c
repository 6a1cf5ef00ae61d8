#include "kernel/cgroup.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- reading the kernel's tables --------------------------------------------------------------- */

/* One word of "key value" lines, wanted as a number times `scale`. */
struct line {
	const char *key;
	uint64_t *to;
	uint64_t scale;
};

static uint64_t number(struct str s)
{
	uint64_t v = 0;

	for (size_t i = 0; i < s.len && s.p[i] >= '0' && s.p[i] <= '9'; i++)
		v = v * 10 + (uint64_t)(s.p[i] - '0');
	return v;
}

static void read_lines(const struct cgroup_text *text, const struct line *want, size_t n)
{
	struct str rest = { text->p, text->len };

	while (rest.p) {
		struct str value = str_cut(&rest, '\n'), key = str_cut(&value, ' ');

		for (size_t i = 0; i < n && value.p; i++)
			if (str_eqz(key, want[i].key)) {
				*want[i].to = number(value) * want[i].scale;
				break;
			}
	}
}

/* "max", and v1's largest page counter, mean no limit. */
static uint64_t limit_of(const struct cgroup_text *text)
{
	uint64_t v;

	if (streq(text->p, "max"))
		return UINT64_MAX;
	v = number((struct str){ text->p, text->len });
	return v >= UINT64_C(0x7ffffffffffff000) ? UINT64_MAX : v;
}

/* Reads many files of one cgroup: its folder is opened once for each hierarchy. */
struct reader {
	const struct cgroup_layout *l;
	const char *path;
	unsigned want;
	int dir[CGROUP_HIERARCHY_MAX]; /* -1: not opened yet, -2: there is none */
	struct cgroup_text text;
};

static void reader_begin(struct reader *r, const struct cgroup_layout *l, const char *path)
{
	r->l = l;
	r->path = path;
	r->want = ~0u;
	for (size_t i = 0; i < CGROUP_HIERARCHY_MAX; i++)
		r->dir[i] = -1;
}

static void reader_end(struct reader *r)
{
	for (size_t i = 0; i < CGROUP_HIERARCHY_MAX; i++)
		if (r->dir[i] >= 0)
			(void)close(r->dir[i]);
}
#define auto_reader AUTO(reader_end) struct reader

static int reader_dir(struct reader *r, enum cgroup_controller c)
{
	int h = r->l->of[c];

	if (h < 0)
		return -1;
	if (r->dir[h] == -1) {
		r->dir[h] = openat(r->l->h[h].root_fd, r->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (r->dir[h] < 0)
			r->dir[h] = -2;
	}
	return r->dir[h];
}

/* The kernel gives a whole page at once: what ends with a line far below that is the end. */
enum { SURELY_WHOLE = 3000 };

static bool get(struct reader *r, enum cgroup_controller c, const char *file)
{
	int dir = reader_dir(r, c);
	auto_fd int fd = dir < 0 ? -1 : openat(dir, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct cgroup_text *t = &r->text;
	ssize_t n;

	if (fd < 0)
		return false;
	t->len = 0;
	do {
		n = read(fd, t->p + t->len, sizeof(t->p) - 1 - t->len);
		if (n < 0 && errno != EINTR)
			return false;
		t->len += n > 0 ? (size_t)n : 0;
	} while (n && t->len < sizeof(t->p) - 1 && !(t->len && t->len < SURELY_WHOLE && t->p[t->len - 1] == '\n'));
	while (t->len && t->p[t->len - 1] == '\n')
		t->len--;
	t->p[t->len] = '\0';
	return true;
}

static uint64_t get_number(struct reader *r, enum cgroup_controller c, const char *file)
{
	return get(r, c, file) ? number((struct str){ r->text.p, r->text.len }) : 0;
}

/* Of memory: those who do not ask for limits need not pay for them. */
static uint64_t get_limit(struct reader *r, enum cgroup_controller c, const char *file)
{
	return r->want & CGROUP_WANT_LIMITS && get(r, c, file) ? limit_of(&r->text) : UINT64_MAX;
}

static bool on_v2(const struct reader *r, enum cgroup_controller c)
{
	return r->l->of[c] >= 0 && r->l->of[c] == r->l->of[CGROUP_UNIFIED];
}

/* --- cpu --------------------------------------------------------------------------------------- */

static void cpu_stats(struct reader *r, struct cgroup_stats *s)
{
	struct line v2[] = {
		{ "usage_usec", &s->cpu.usage_ns, 1000 },
		{ "user_usec", &s->cpu.user_ns, 1000 },
		{ "system_usec", &s->cpu.system_ns, 1000 },
		{ "nr_periods", &s->cpu.periods, 1 },
		{ "nr_throttled", &s->cpu.throttled_periods, 1 },
		{ "throttled_usec", &s->cpu.throttled_ns, 1000 },
		{ "nr_bursts", &s->cpu.burst_periods, 1 },
		{ "burst_usec", &s->cpu.burst_ns, 1000 },
	};
	struct line v1_throttling[] = {
		{ "nr_periods", &s->cpu.periods, 1 },
		{ "nr_throttled", &s->cpu.throttled_periods, 1 },
		{ "throttled_time", &s->cpu.throttled_ns, 1 },
		{ "nr_bursts", &s->cpu.burst_periods, 1 },
		{ "burst_time", &s->cpu.burst_ns, 1 },
	};
	uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);
	struct line v1_split[] = {
		{ "user", &s->cpu.user_ns, tick_ns },
		{ "system", &s->cpu.system_ns, tick_ns },
	};

	if (on_v2(r, CGROUP_CPU)) {
		if (!get(r, CGROUP_CPU, "cpu.stat"))
			return;
		read_lines(&r->text, v2, ARRAY_SIZE(v2));
		s->has |= CGROUP_HAS_CPU | (strstr(r->text.p, "nr_periods") ? CGROUP_HAS_THROTTLING : 0);
		return;
	}
	if (get(r, CGROUP_CPUACCT, "cpuacct.usage")) {
		s->cpu.usage_ns = number((struct str){ r->text.p, r->text.len });
		s->has |= CGROUP_HAS_CPU;
	}
	if (get(r, CGROUP_CPUACCT, "cpuacct.stat"))
		read_lines(&r->text, v1_split, ARRAY_SIZE(v1_split));
	if (get(r, CGROUP_CPU, "cpu.stat") && strstr(r->text.p, "nr_periods")) {
		read_lines(&r->text, v1_throttling, ARRAY_SIZE(v1_throttling));
		s->has |= CGROUP_HAS_THROTTLING;
	}
}

/* --- memory ------------------------------------------------------------------------------------ */

static void memory_v2(struct reader *r, struct cgroup_stats *s)
{
	struct line stat[] = {
		{ "anon", &s->memory.rss, 1 },
		{ "file", &s->memory.cache, 1 },
		{ "file_mapped", &s->memory.mapped_file, 1 },
		{ "active_file", &s->memory.active_file, 1 },
		{ "inactive_file", &s->memory.inactive_file, 1 },
		{ "kernel", &s->memory.kernel, 1 },
		{ "pgfault", &s->memory.page_faults, 1 },
		{ "pgmajfault", &s->memory.major_page_faults, 1 },
	};
	struct line events[] = {
		{ "max", &s->memory.failures, 1 },
		{ "oom_kill", &s->memory.oom_kills, 1 },
	};

	if (!get(r, CGROUP_MEMORY, "memory.current"))
		return;
	s->has |= CGROUP_HAS_MEMORY;
	s->memory.usage = number((struct str){ r->text.p, r->text.len });
	if (get(r, CGROUP_MEMORY, "memory.stat"))
		read_lines(&r->text, stat, ARRAY_SIZE(stat));
	if (get(r, CGROUP_MEMORY, "memory.events"))
		read_lines(&r->text, events, ARRAY_SIZE(events));
	s->memory.limit = get_limit(r, CGROUP_MEMORY, "memory.max");
	s->memory.max_usage = get_number(r, CGROUP_MEMORY, "memory.peak");
	s->memory.swap = get_number(r, CGROUP_MEMORY, "memory.swap.current");
	s->memory.swap_limit = get_limit(r, CGROUP_MEMORY, "memory.swap.max");
	s->memory.working_set = s->memory.usage - MIN(s->memory.usage, s->memory.inactive_file);
	s->memory.own_page_faults = s->memory.page_faults;
	s->memory.own_major_page_faults = s->memory.major_page_faults;
}

static void memory_v1(struct reader *r, struct cgroup_stats *s)
{
	uint64_t memsw;
	struct line stat[] = {
		{ "total_rss", &s->memory.rss, 1 },
		{ "total_cache", &s->memory.cache, 1 },
		{ "total_mapped_file", &s->memory.mapped_file, 1 },
		{ "total_swap", &s->memory.swap, 1 },
		{ "total_active_file", &s->memory.active_file, 1 },
		{ "total_inactive_file", &s->memory.inactive_file, 1 },
		{ "pgfault", &s->memory.own_page_faults, 1 },
		{ "pgmajfault", &s->memory.own_major_page_faults, 1 },
		{ "total_pgfault", &s->memory.page_faults, 1 },
		{ "total_pgmajfault", &s->memory.major_page_faults, 1 },
	};
	struct line events[] = { { "oom_kill", &s->memory.oom_kills, 1 } };

	if (!get(r, CGROUP_MEMORY, "memory.usage_in_bytes"))
		return;
	s->has |= CGROUP_HAS_MEMORY;
	s->memory.usage = number((struct str){ r->text.p, r->text.len });
	if (get(r, CGROUP_MEMORY, "memory.stat"))
		read_lines(&r->text, stat, ARRAY_SIZE(stat));
	s->memory.limit = get_limit(r, CGROUP_MEMORY, "memory.limit_in_bytes");
	s->memory.max_usage = get_number(r, CGROUP_MEMORY, "memory.max_usage_in_bytes");
	s->memory.failures = get_number(r, CGROUP_MEMORY, "memory.failcnt");
	s->memory.kernel = get_number(r, CGROUP_MEMORY, "memory.kmem.usage_in_bytes");
	memsw = get_limit(r, CGROUP_MEMORY, "memory.memsw.limit_in_bytes");
	s->memory.swap_limit = memsw == UINT64_MAX || s->memory.limit == UINT64_MAX ? UINT64_MAX :
			       memsw - MIN(memsw, s->memory.limit);
	s->memory.working_set = s->memory.usage - MIN(s->memory.usage, s->memory.inactive_file);
	if (get(r, CGROUP_MEMORY, "memory.oom_control"))
		read_lines(&r->text, events, ARRAY_SIZE(events));
}

int cgroup_oom_kills(const struct cgroup_layout *l, const char *path, uint64_t *out, struct err *e)
{
	bool v2 = l->of[CGROUP_MEMORY] >= 0 && l->of[CGROUP_MEMORY] == l->of[CGROUP_UNIFIED];
	struct cgroup_text text;
	uint64_t kills = 0;
	struct line want[] = { { "oom_kill", &kills, 1 } };

	if (cgroup_read(l, CGROUP_MEMORY, path, v2 ? "memory.events" : "memory.oom_control", &text, e) < 0)
		return -1;
	read_lines(&text, want, 1);
	*out = kills;
	return 0;
}

/* --- pids, io, pressure ------------------------------------------------------------------------ */

static void pids_stats(struct reader *r, struct cgroup_stats *s)
{
	if (!get(r, CGROUP_PIDS, "pids.current"))
		return;
	s->has |= CGROUP_HAS_PIDS;
	s->pids.current = number((struct str){ r->text.p, r->text.len });
	s->pids.limit = get(r, CGROUP_PIDS, "pids.max") ? limit_of(&r->text) : UINT64_MAX;
}

/* "8:0" gets a place, NULL where all are taken or it is no device. */
static struct cgroup_io_device *io_device(struct cgroup_stats *s, struct str name)
{
	struct str minor = name, major = str_cut(&minor, ':');
	unsigned ma = (unsigned)number(major), mi = minor.p ? (unsigned)number(minor) : 0;

	if (!minor.p)
		return NULL;
	for (size_t i = 0; i < s->io.ndevices; i++)
		if (s->io.devices[i].major == ma && s->io.devices[i].minor == mi)
			return &s->io.devices[i];
	if (s->io.ndevices == CGROUP_IO_DEVICES_MAX)
		return NULL;
	s->io.devices[s->io.ndevices] = (struct cgroup_io_device){ .major = ma, .minor = mi };
	return &s->io.devices[s->io.ndevices++];
}

static void io_add(struct cgroup_stats *s, struct cgroup_io_device *d, const struct cgroup_io_device *n)
{
	struct cgroup_io_device ignored = { 0 };

	if (!d)
		d = &ignored;
	d->read_bytes += n->read_bytes;
	d->write_bytes += n->write_bytes;
	d->reads += n->reads;
	d->writes += n->writes;
	s->io.read_bytes += n->read_bytes;
	s->io.write_bytes += n->write_bytes;
	s->io.reads += n->reads;
	s->io.writes += n->writes;
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" */
static void io_v2(struct reader *r, struct cgroup_stats *s)
{
	struct str rest;

	if (!get(r, CGROUP_BLKIO, "io.stat"))
		return;
	s->has |= CGROUP_HAS_IO;
	rest = (struct str){ r->text.p, r->text.len };
	while (rest.p) {
		struct str words = str_cut(&rest, '\n'), name = str_cut(&words, ' ');
		struct cgroup_io_device n = { 0 };

		while (words.p) {
			struct str value = str_cut(&words, ' '), key = str_cut(&value, '=');
			uint64_t v = value.p ? number(value) : 0;

			n.read_bytes += str_eqz(key, "rbytes") ? v : 0;
			n.write_bytes += str_eqz(key, "wbytes") ? v : 0;
			n.reads += str_eqz(key, "rios") ? v : 0;
			n.writes += str_eqz(key, "wios") ? v : 0;
		}
		io_add(s, io_device(s, name), &n);
	}
}

/* "8:0 Read 4096": one line a device and operation, then "Total 4096". */
static void io_v1_file(struct reader *r, const char *file, struct cgroup_stats *s, bool bytes)
{
	struct str rest;

	if (!get(r, CGROUP_BLKIO, file))
		return;
	rest = (struct str){ r->text.p, r->text.len };
	while (rest.p) {
		struct str value = str_cut(&rest, '\n'), name = str_cut(&value, ' '), op = str_cut(&value, ' ');
		struct cgroup_io_device n = { 0 };

		if (!value.p)
			continue;
		if (str_eqz(op, "Read"))
			*(bytes ? &n.read_bytes : &n.reads) = number(value);
		else if (str_eqz(op, "Write"))
			*(bytes ? &n.write_bytes : &n.writes) = number(value);
		else
			continue;
		io_add(s, io_device(s, name), &n);
	}
}

static void io_stats(struct reader *r, struct cgroup_stats *s)
{
	if (r->l->of[CGROUP_BLKIO] < 0)
		return;
	if (on_v2(r, CGROUP_BLKIO)) {
		io_v2(r, s);
		return;
	}
	s->has |= CGROUP_HAS_IO;
	io_v1_file(r, "blkio.throttle.io_service_bytes_recursive", s, true);
	if (s->io.ndevices)
		io_v1_file(r, "blkio.throttle.io_serviced_recursive", s, false);
}

int cgroup_hugepages(const struct cgroup_layout *l, const char *path, const char *size, struct cgroup_hugepages *out,
		     struct err *e)
{
	bool v2 = l->of[CGROUP_HUGETLB] >= 0 && l->of[CGROUP_HUGETLB] == l->of[CGROUP_UNIFIED];
	struct cgroup_hugepages h = { 0 };
	auto_reader r;
	char file[64];

	(void)snprintf(file, sizeof(file), v2 ? "hugetlb.%s.current" : "hugetlb.%s.usage_in_bytes", size);
	reader_begin(&r, l, path);
	if (!get(&r, CGROUP_HUGETLB, file))
		return err_set(e, ERR_NOT_FOUND, "cgroup %s has no %s", path, file);
	h.usage = number((struct str){ r.text.p, r.text.len });
	if (!v2) {
		(void)snprintf(file, sizeof(file), "hugetlb.%s.max_usage_in_bytes", size);
		h.has_max = get(&r, CGROUP_HUGETLB, file);
		h.max_usage = h.has_max ? number((struct str){ r.text.p, r.text.len }) : 0;
	}
	*out = h;
	return 0;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static bool pressure(struct reader *r, const char *file, struct cgroup_pressure *p)
{
	if (!get(r, CGROUP_UNIFIED, file))
		return false;
	for (const char *at = r->text.p; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
		double avg10, avg60, avg300;
		unsigned long long total;
		char what[8];

		if (sscanf(at, "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", what, &avg10, &avg60, &avg300,
			   &total) != 5)
			continue;
		if (streq(what, "some")) {
			p->some_avg10 = avg10;
			p->some_avg60 = avg60;
			p->some_avg300 = avg300;
			p->some_total_us = total;
		} else {
			p->full_avg10 = avg10;
			p->full_avg60 = avg60;
			p->full_avg300 = avg300;
			p->full_total_us = total;
		}
	}
	return true;
}

int cgroup_stats(const struct cgroup_layout *l, const char *path, struct cgroup_stats *out, struct err *e)
{
	return cgroup_stats_of(l, path, ~0u, out, e);
}

int cgroup_stats_of(const struct cgroup_layout *l, const char *path, unsigned want, struct cgroup_stats *out,
		    struct err *e)
{
	struct cgroup_stats s = { 0 };
	auto_reader r;

	reader_begin(&r, l, path);
	if (reader_dir(&r, CGROUP_MEMORY) < 0 && !cgroup_exists(l, path))
		return err_set(e, ERR_NOT_FOUND, "cgroup %s does not exist", path);
	r.want = want;
	if (want & CGROUP_HAS_CPU)
		cpu_stats(&r, &s);
	if (want & CGROUP_HAS_MEMORY && on_v2(&r, CGROUP_MEMORY))
		memory_v2(&r, &s);
	else if (want & CGROUP_HAS_MEMORY)
		memory_v1(&r, &s);
	if (want & CGROUP_HAS_PIDS)
		pids_stats(&r, &s);
	if (want & CGROUP_HAS_IO)
		io_stats(&r, &s);
	if (want & CGROUP_HAS_PRESSURE && pressure(&r, "cpu.pressure", &s.cpu_pressure) &&
	    pressure(&r, "memory.pressure", &s.memory_pressure) && pressure(&r, "io.pressure", &s.io_pressure))
		s.has |= CGROUP_HAS_PRESSURE;
	*out = s;
	return 0;
}
