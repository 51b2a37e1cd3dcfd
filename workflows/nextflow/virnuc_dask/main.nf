process VIRNUC_DASK {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"

    input:
    tuple val(meta), path(fasta)

    output:
    tuple val(meta), path("virnuc/${prefix}.contigs.tsv")                            , emit: contigs
    tuple val(meta), path("virnuc/${prefix}.virus.fasta")                            , emit: fasta
    tuple val(meta), path("virnuc/${prefix}.virus_regions.*")                          , emit: regions
    tuple val(meta), path("virnuc/${prefix}.virus_summary.tsv")      , optional: true, emit: summary
    tuple val(meta), path("virnuc/${prefix}.prediction_results*")                    , emit: predictions
    tuple val(meta), path("virnuc/${prefix}.report.html")            , optional: true, emit: report
    path "virnuc/multiqc/${prefix}.*_mqc.json"                                       , emit: multiqc
    path "versions.yml"                                                              , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def workers = task.accelerator ? "--cluster cuda" : task.cpus > 1 ? "--cluster cpu --workers ${task.cpus}" : "--cluster none"
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    virnuc-dask run \\
        ${fasta} \\
        --out virnuc \\
        --prefix ${prefix} \\
        ${workers} \\
        --threads 1 \\
        --no-features \\
        --quiet \\
        ${args}

    sed 's|^virnuc_dask:|"${task.process}":|' virnuc/versions.yml > versions.yml
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p virnuc/multiqc
    touch virnuc/${prefix}.contigs.tsv virnuc/${prefix}.virus.fasta
    touch virnuc/${prefix}.virus_regions.tsv virnuc/${prefix}.prediction_results.txt
    touch virnuc/multiqc/${prefix}.virnuc_calls_mqc.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        virnuc_dask: \$(virnuc-dask --version | sed 's/.* //')
    END_VERSIONS
    """
}
