"""Certificates for a test: ca, server and client, each NAME.pem with NAME.key, for 127.0.0.1."""
import pathlib
import subprocess


def openssl(*words, cwd):
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


def certificates(folder):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj",
            "/CN=knarr-test-ca", cwd=folder)
    pathlib.Path(folder, "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in "server", "client":
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                f"/CN=knarr-test-{name}", cwd=folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-days", "2", "-extfile", "names", cwd=folder)
    return folder
