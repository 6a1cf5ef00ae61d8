#include "monitor/exit_record.h"

#include "base/fs.h"
#include "base/json.h"

#include <stdio.h>

enum { RECORD_VERSION = 1, RECORD_MAX = 4096, NAME_MAX_BYTES = CONTAINER_ID_MAX + 8 };

struct document {
	uint32_t version;
	char *container;
	int32_t code, signal, pid;
	bool oom_killed;
	int64_t started, finished;
};

static const struct json_field fields[] = {
	{ "version", JSON_U32, offsetof(struct document, version), JSON_REQUIRED },
	{ "container", JSON_STR, offsetof(struct document, container), JSON_REQUIRED },
	{ "code", JSON_I32, offsetof(struct document, code), JSON_REQUIRED },
	{ "signal", JSON_I32, offsetof(struct document, signal), JSON_OPTIONAL },
	{ "oomKilled", JSON_BOOL, offsetof(struct document, oom_killed), JSON_OPTIONAL },
	{ "pid", JSON_I32, offsetof(struct document, pid), JSON_OPTIONAL },
	{ "startedNs", JSON_I64, offsetof(struct document, started), JSON_REQUIRED },
	{ "finishedNs", JSON_I64, offsetof(struct document, finished), JSON_REQUIRED },
	{ 0 },
};

int container_id_check(const char *id, struct err *e)
{
	size_t n = strlen(id);

	if (n && n <= CONTAINER_ID_MAX && id[0] != '.' &&
	    strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n)
		return 0;
	return err_set(e, ERR_INVALID, "\"%.200s\" is no container id", id);
}

static void record_name(char name[NAME_MAX_BYTES], const char *container_id)
{
	(void)snprintf(name, NAME_MAX_BYTES, "exit-%s", container_id);
}

/* Printed by hand: knarr-pod has no use for a heap. */
int exit_record_write(int state_dirfd, const char *container_id, const struct exit_record *r, struct err *e)
{
	char name[NAME_MAX_BYTES], text[512];
	int n;

	record_name(name, container_id);
	n = snprintf(text, sizeof(text),
		     "{\"version\":%d,\"container\":\"%s\",\"code\":%d,\"signal\":%d,\"oomKilled\":%s,"
		     "\"pid\":%d,\"startedNs\":%lld,\"finishedNs\":%lld}\n",
		     RECORD_VERSION, container_id, r->code, r->signal, r->oom_killed ? "true" : "false",
		     r->pid, (long long)r->started_wall_ns, (long long)r->finished_wall_ns);
	return fs_replace(state_dirfd, name, text, (size_t)n, 0600, 0, e);
}

int exit_record_read(struct arena *a, int state_dirfd, const char *container_id, struct exit_record *out,
		     struct err *e)
{
	struct document d = { 0 };
	char name[NAME_MAX_BYTES];
	struct str text;

	if (container_id_check(container_id, e) < 0)
		return -1;
	record_name(name, container_id);
	if (fs_read_file(a, state_dirfd, name, RECORD_MAX, &text, e) < 0)
		return err_in(e, "exit record of container %s", container_id);
	if (json_load(a, text, fields, 0, &d, e) < 0) {
		err_kind_to(e, ERR_DATA_LOSS);
		return err_in(e, "exit record of container %s", container_id);
	}
	if (d.version != RECORD_VERSION || !streq(d.container, container_id))
		return err_set(e, ERR_DATA_LOSS, "%s is a record of version %u of container %s", name,
			       d.version, d.container);
	*out = (struct exit_record){
		.code = d.code,
		.signal = d.signal,
		.oom_killed = d.oom_killed,
		.pid = d.pid,
		.started_wall_ns = d.started,
		.finished_wall_ns = d.finished,
	};
	return 0;
}

int exit_record_remove(int state_dirfd, const char *container_id, struct err *e)
{
	char name[NAME_MAX_BYTES];

	record_name(name, container_id);
	return fs_remove_file(state_dirfd, name, e);
}
