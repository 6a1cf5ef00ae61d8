/* Where a registry's content is fetched from: hosts.toml as containerd reads it (docs/hosts.md there),
 * one folder per registry host below a hosts folder: HOST_PORT_, HOST:PORT, HOST, then _default.
 *
 * Pure: the caller finds and reads the files; paths of certificates come out as written, relative
 * ones belong to the folder of hosts.toml. */
#ifndef KNARR_SPEC_HOSTS_H
#define KNARR_SPEC_HOSTS_H

#include "base/json.h"

enum { HOSTS_MAX = 64 };
enum { HOST_PULL = BIT(0), HOST_RESOLVE = BIT(1), HOST_PUSH = BIT(2) };

struct host_client {
	char *cert, *key; /* PEM files; key NULL: in the same file */
};

struct host {
	char *scheme;             /* "http" or "https" */
	char *authority;          /* "registry.example:5000" */
	char *path;               /* "/v2", or what override_path says; no '/' at the end */
	char *repository;         /* its name there; NULL: as in the reference */
	unsigned capabilities;    /* HOST_PULL… */
	char **ca;                /* PEM files; NULL: none */
	struct json_vec client;   /* of struct host_client */
	bool skip_verify;
	bool tls_said;            /* ca, client or skip_verify is set: an http host is tried with TLS first */
	struct json_vec headers;  /* of struct json_pair; a name may come several times */
	int64_t dial_timeout_ns;
	bool is_origin;           /* the registry itself, no mirror: requests carry no ?ns= */
};

enum { HOST_DIAL_TIMEOUT_S = 30 };

struct hosts {
	struct host *host; /* in the order in which they are to be tried */
	size_t n;
};

/* The names of the folders to look for, in order, NULL-terminated. */
char **hosts_folders(struct arena *a, const char *registry);

/* hosts.toml for `registry` (a reference's domain). ERR_INVALID names line and key. */
int hosts_parse(struct arena *a, struct str text, const char *registry, struct hosts *out, struct err *e);

/* Where no hosts.toml is: the registry itself. docker.io is registry-1.docker.io; a loopback registry
 * is tried with TLS, without verification, then with plain http. */
void hosts_default(struct arena *a, const char *registry, struct hosts *out);

/* The registry itself, as hosts_default has it, with all settings but those of TLS at their defaults. */
void host_init(struct arena *a, const char *registry, struct host *out);

/* "localhost", 127.0.0.0/8, [::1], with or without a port. */
bool host_is_loopback(const char *authority);

#endif
